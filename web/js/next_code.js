// A panel on Sampling Settings: how temperature, top-k, top-p and min-p reshape what the model expected at one cell of
// the last picture that Sample Codes made. Click the picture to choose the cell, move the sliders to see.
//
// An extra: nothing depends on it. A panel shows the last run of what its node is connected to, and where that is not
// known, as across the border of a subgraph, the last run of all. The chosen cell is shared by all panels of the page.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { parse } from "./forecast.js";
import { draw, scores, warp } from "./warp.js";

const NODE = "TesseraSamplingSettings";
const SETTINGS = ["temperature", "top_k", "top_p", "min_p"];
const HEIGHT = 190;
const runs = new Map(); // id of the node that ran -> what it made, the last one at the end
const chosen = { row: 0, column: 0 };
const redraw = new WeakMap(); // panel element -> its function

function redrawAll() {
  for (const panel of document.querySelectorAll(".tessera-next-code")) redraw.get(panel)?.();
}

api.addEventListener("executed", async ({ detail }) => {
  const file = detail.output?.tessera_forecast?.[0];
  if (!file) return;
  const url = (one) => api.apiURL(`/view?${new URLSearchParams(one)}`);
  try {
    const answer = await fetch(url(file), { cache: "no-store" });
    const forecast = parse(await answer.arrayBuffer());
    const picture = new Image();
    picture.src = url(detail.output.images[0]);
    await picture.decode();
    if (forecast.rows <= chosen.row || forecast.columns <= chosen.column || !runs.size) {
      Object.assign(chosen, { row: forecast.rows >> 1, column: forecast.columns >> 1 });
    }
    const id = String(detail.node);
    runs.delete(id);
    runs.set(id, { forecast, picture });
    redrawAll();
  } catch (error) {
    console.warn("Tessera: the next-code panel can't read this run", error); // a cached run whose file is gone
  }
});

app.registerExtension({
  name: "Tessera.NextCode",
  nodeCreated(node) {
    if (node.comfyClass === NODE) addPanel(node);
  },
});

// The last run of the nodes that this one is connected to, else of any.
function runOf(node) {
  const links = (node.outputs[0].links ?? []).map((id) => node.graph.links[id] ?? node.graph.links.get?.(id));
  const own = new Set(links.map((link) => String(link?.target_id)));
  const all = [...runs.entries()];
  return (all.findLast(([id]) => own.has(id)) ?? all.at(-1))?.[1];
}

function addPanel(node) {
  const panel = document.createElement("div");
  panel.className = "tessera-next-code";
  Object.assign(panel.style, { width: "100%", height: "100%", minHeight: `${HEIGHT}px`, overflow: "hidden" });
  const canvas = panel.appendChild(document.createElement("canvas"));
  canvas.role = "img";
  Object.assign(canvas.style, { display: "block", width: "100%", height: "100%" });

  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT, getValue: () => "", setValue() {} };
  const widget = node.addDOMWidget("next_code", "tessera_next_code", panel, options);
  widget.serialize = false;

  let frame = null; // where the picture is
  const paint = () => {
    const { clientWidth: width, clientHeight: height } = panel;
    if (!width || !height) return; // not on the page at present
    const sharp = 2 * window.devicePixelRatio; // the graph may be zoomed in
    Object.assign(canvas, { width: width * sharp, height: height * sharp });
    const context = canvas.getContext("2d");
    context.scale(sharp, sharp);
    const settings = Object.fromEntries(SETTINGS.map((name) => [name, node.widgets.find((w) => w.name === name).value]));
    let words;
    [frame, words] = paintPanel(context, width, height, settings, runOf(node));
    canvas.ariaLabel = words.join(" ");
  };
  redraw.set(panel, paint);
  new ResizeObserver(paint).observe(panel);

  for (const name of SETTINGS) {
    const one = node.widgets.find((w) => w.name === name);
    const { callback } = one;
    one.callback = function (...values) {
      const result = callback?.apply(this, values);
      requestAnimationFrame(paint); // once the value is the new one
      return result;
    };
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !frame) return;
    const box = canvas.getBoundingClientRect(); // scaled as the graph is
    const x = ((event.clientX - box.left) / box.width) * panel.clientWidth - frame.x;
    const y = ((event.clientY - box.top) / box.height) * panel.clientHeight - frame.y;
    if (x < 0 || y < 0 || x >= frame.width || y >= frame.height) return;
    event.stopPropagation();
    Object.assign(chosen, { row: Math.floor(y / frame.cell), column: Math.floor(x / frame.cell) });
    redrawAll();
  });
}

// Returns where the picture is and how large a cell of it, and what is said.
function paintPanel(context, width, height, settings, run) {
  const { forecast, picture } = run ?? {};
  const row = Math.min(chosen.row, (forecast?.rows ?? 1) - 1); // of a smaller picture the nearest cell
  const column = Math.min(chosen.column, (forecast?.columns ?? 1) - 1);
  const cell = forecast?.cell(row, column);
  const warped = cell && warp(cell.logProbabilities, forecast.counts, settings);
  const place = cell && draw(warped, cell.noise);
  const words = inWords(forecast, row, column, cell, warped, place);
  context.font = "11px sans-serif";
  context.fillStyle = "#bbb";
  words.forEach((line, i) => context.fillText(line, 4, 12 + 15 * i, width - 8));
  if (!forecast) return [null, words];

  const [top, floor] = [36, height - 4];
  const scale = Math.min((width * 0.4) / picture.width, (floor - top) / picture.height);
  const frame = { x: 4, y: top, width: picture.width * scale, height: picture.height * scale, cell: forecast.stride * scale };
  context.drawImage(picture, frame.x, frame.y, frame.width, frame.height);
  for (const [colour, line] of [["#000", 3], ["#fff", 1.5]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: line });
    context.strokeRect(frame.x + column * frame.cell, frame.y + row * frame.cell, frame.cell, frame.cell);
  }
  if (cell) {
    context.translate(frame.x + frame.width + 10, top);
    paintBars(context, width - frame.width - 18, floor - top, forecast, cell, warped, place);
  }
  return [frame, words];
}

function inWords(forecast, row, column, cell, warped, place) {
  if (!forecast) return ["Run Sample Codes: here you will see what these", "settings do to the choice of the next code."];
  if (!cell) return [`Row ${row}, column ${column} was given, not drawn;`, "choose another cell in the picture."];
  const { kept, probabilities } = warped;
  const number = kept.reduce((sum, count) => sum + count, 0);
  const exact = number <= forecast.likeliest || number === forecast.size;
  const code = place < forecast.likeliest ? `code ${cell.codes[place]}` : "a rare code";
  const share = Number((100 * probabilities[place]).toPrecision(2));
  return [
    `Row ${row}, column ${column}: ${exact ? "" : "about "}${number} of ${forecast.size} codes are left;`,
    `this seed draws ${code}, which had ${share} %${place ? "" : ", the likeliest"}.`,
  ];
}

// A bar for each of the likeliest codes, in its colour; outlined, as the model was trained. A dot for what the code
// scores with the noise of this seed, as a share of the winner's: the winner's is at the top.
function paintBars(context, width, height, forecast, cell, warped, place) {
  const { probabilities } = warped;
  const shown = Math.min(forecast.likeliest, Math.floor(width / 4));
  const trained = Array.from(cell.logProbabilities.subarray(0, shown), Math.exp);
  const highest = Math.max(...trained, ...probabilities.slice(0, shown));
  const noisy = scores(warped, cell.noise);
  const floor = height - 12;
  const step = width / shown;
  Object.assign(context, { strokeStyle: "#aaa", lineWidth: 0.7 });
  for (let i = 0; i < shown; i++) {
    const [after, before] = [probabilities[i], trained[i]].map((share) => (share / highest) * floor);
    context.fillStyle = forecast.colour(cell.codes[i]);
    context.fillRect(i * step, floor - after, step - 1, after);
    context.strokeRect(i * step, floor - before, step - 1, before);
  }
  context.fillStyle = "#fff";
  for (let i = 0; i < shown; i++) {
    const share = Math.exp(noisy[i] - noisy[place]);
    if (share > 0.005) context.fillRect((i + 0.5) * step - 1.5, (1 - share) * floor, 2, 2);
  }
  const mark = place < shown ? ["▲", (place + 0.5) * step - 5] : ["▶", width - 8];
  context.fillText(mark[0], mark[1], height);
}
