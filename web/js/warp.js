// Temperature, top-k, top-p and min-p, in this order: core/sampling/logits.py on a forecast.
//
// A forecast gives the codes of a cell in order of probability: log-probabilities, and how many codes each of them
// stands for (`counts`, 1 for the likeliest codes, more for the groups that follow). Each step takes how many are
// still kept and returns how many remain.

const COLDEST = 1e-20;

// How many codes are kept of each, the logits of one such code and its probability.
export function warp(logProbabilities, counts, { temperature, top_k, top_p, min_p }) {
  const likeliest = logProbabilities[0];
  const logits = Array.from(logProbabilities, (log) => (log - likeliest) / Math.max(temperature, COLDEST));
  let kept = keepTopK(logits, Array.from(counts), top_k);
  kept = keepTopP(logits, kept, top_p);
  kept = keepMinP(logits, kept, min_p);
  return { kept, logits, probabilities: softmax(logits, kept) };
}

// What each scores with the noise of this seed: the highest is drawn. -Infinity for those left out.
export function scores({ kept, logits }, noise) {
  return logits.map((logit, i) => (kept[i] ? logit + noise[i] : -Infinity));
}

// Which of them is drawn.
export function draw(warped, noise) {
  const all = scores(warped, noise);
  return all.indexOf(Math.max(...all));
}

function softmax(logits, kept) {
  const weights = logits.map((logit, i) => (kept[i] ? Math.exp(logit) : 0));
  const total = weights.reduce((sum, weight, i) => sum + kept[i] * weight, 0);
  return weights.map((weight) => weight / total);
}

function keepTopK(logits, kept, k) {
  if (k === 0) return kept;
  let reached = 0;
  const last = kept.findIndex((count) => (reached += count) >= k); // the k-th code is among these
  if (last < 0) return kept;
  const tied = (i) => kept[i] === 1 && logits[i] === logits[last];
  return kept.map((count, i) => (i < last || tied(i) ? count : i === last ? count - (reached - k) : 0));
}

function keepTopP(logits, kept, p) {
  if (p >= 1) return kept;
  const probabilities = softmax(logits, kept);
  let before = 0; // the mass of the likelier codes
  return kept.map((count, i) => {
    const some = before >= p ? 0 : Math.min(count, Math.ceil((p - before) / probabilities[i]));
    before += count * probabilities[i];
    return some;
  });
}

function keepMinP(logits, kept, p) {
  return kept.map((count, i) => (logits[i] >= Math.log(p) ? count : 0));
}
