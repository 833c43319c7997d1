// Reads the file that Sample Codes writes: core/sampling/trace.py.

const TYPES = { I32: Int32Array, F32: Float32Array, U8: Uint8Array };

// safetensors: the length of a JSON header in eight bytes, the header, the numbers.
export function parse(buffer) {
  const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
  const { __metadata__: metadata, ...header } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(header)) {
    tensors[name] = { shape, values: new TYPES[dtype](buffer.slice(start + from, start + to)) };
  }
  return new Forecast(tensors, Number(metadata.stride));
}

class Forecast {
  constructor(tensors, stride) {
    Object.assign(this, { tensors, stride });
    [this.rows, this.columns, this.likeliest] = tensors.codes.shape;
    this.counts = tensors.counts.values;
    this.size = tensors.colours.shape[0]; // codes in the codebook
  }

  // What is known of a cell; null where it was given and not drawn.
  cell(row, column) {
    const at = row * this.columns + column;
    const part = (name, length) => this.tensors[name].values.subarray(at * length, (at + 1) * length);
    const logProbabilities = part("log_probabilities", this.counts.length);
    if (Number.isNaN(logProbabilities[0])) return null;
    return { logProbabilities, codes: part("codes", this.likeliest), noise: part("noise", this.counts.length) };
  }

  colour(code) {
    return `rgb(${this.tensors.colours.values.subarray(3 * code, 3 * code + 3).join(" ")})`;
  }
}
