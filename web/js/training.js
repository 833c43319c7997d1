// A panel on Train VQGAN and Train Prior: how the run of that name is doing, asked of the server every few seconds, with
// buttons to stop it and to let it go on. The run is a process of its own: it is found again after a restart of the page
// or of ComfyUI.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

const NODES = ["TesseraTrainVQGAN", "TesseraTrainPrior"];
const HEIGHT = 300;
const OFTEN = 2000; // milliseconds between questions while it runs
const SELDOM = 10_000;
const LOOK = { display: "flex", flexDirection: "column", gap: "4px", font: "11px sans-serif", color: "#bbb" };

function part(parent, kind, style = {}) {
  const made = parent.appendChild(document.createElement(kind));
  Object.assign(made.style, style);
  return made;
}

app.registerExtension({
  name: "Tessera.Training",
  nodeCreated(node) {
    if (NODES.includes(node.comfyClass)) addPanel(node);
  },
});

function addPanel(node) {
  const panel = document.createElement("div");
  panel.className = "tessera-training";
  Object.assign(panel.style, { width: "100%", height: "100%", minHeight: `${HEIGHT}px`, overflow: "hidden", ...LOOK });
  const sentence = part(panel, "div", { flex: "none" });
  sentence.role = "status";
  const figures = part(panel, "div", { flex: "none", color: "#999" });
  const curve = part(panel, "canvas", { flex: "1 1 70px", minHeight: "50px", width: "100%" });
  curve.role = "img";
  const picture = part(panel, "img", { flex: "1 1 100px", minHeight: 0, objectFit: "contain", display: "none" });
  picture.alt = "held-out pictures and what the model makes of them";
  const row = part(panel, "div", { flex: "none", display: "flex", gap: "6px" });
  const buttons = Object.fromEntries([["stop", "Stop"], ["go_on", "Go on"]].map(([act, label]) => {
    const button = part(row, "button", { flex: 1, cursor: "pointer" });
    button.textContent = label;
    button.addEventListener("click", () => ask(act));
    return [act, button];
  }));

  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT, getValue: () => "", setValue() {} };
  node.addDOMWidget("training", "tessera_training", panel, options).serialize = false;

  let timer;
  let run = null; // what was last told
  const show = (told) => {
    run = told;
    sentence.textContent = told.error ?? told.sentence;
    const heldOut = inWords(told.held_out);
    figures.textContent = inWords(told.figures) + (heldOut && ` | held out: ${heldOut}`);
    buttons.stop.disabled = told.state !== "running";
    buttons.go_on.disabled = told.state !== "ended";
    paintCurve(curve, told);
    const address = told.picture ? api.apiURL(`/view?${new URLSearchParams(told.picture)}`) : "";
    picture.style.display = address ? "" : "none";
    if (address && picture.getAttribute("src") !== address) picture.src = address;
  };
  const ask = async (act = "") => {
    clearTimeout(timer);
    if (!panel.isConnected && run) return later(SELDOM); // in a graph that is not on the page at present
    const name = node.widgets.find((one) => one.name === "name").value;
    const address = `/tessera/training/${encodeURIComponent(name)}${act && `/${act}`}`;
    try {
      const answer = await api.fetchApi(address, { method: act ? "POST" : "GET", cache: "no-store" });
      show(await answer.json());
    } catch {
      sentence.textContent = "ComfyUI does not answer; a run goes on without it.";
    }
    later(run?.state === "running" || (act && !run?.error) ? OFTEN : SELDOM);
  };
  const later = (wait) => {
    timer = setTimeout(ask, wait);
  };
  const { onRemoved, onExecuted } = node;
  node.onRemoved = function (...values) {
    clearTimeout(timer);
    return onRemoved?.apply(this, values);
  };
  node.onExecuted = function (...values) {
    ask();
    return onExecuted?.apply(this, values);
  };
  new ResizeObserver(() => run && paintCurve(curve, run)).observe(curve);
  later(0); // once the saved name is in its widget
}

function inWords(figures = {}) {
  const short = (value) => Number(value.toPrecision(3));
  return Object.entries(figures).map(([name, value]) => `${name.replaceAll("_", " ")} ${short(value)}`).join("  ");
}

// The loss over the steps.
function paintCurve(canvas, { loss, curve }) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width || !height || !curve?.length) return;
  const sharp = 2 * window.devicePixelRatio; // the graph may be zoomed in
  Object.assign(canvas, { width: width * sharp, height: height * sharp });
  const context = canvas.getContext("2d");
  context.scale(sharp, sharp);
  const [steps, values] = [curve.map(([step]) => step), curve.map(([, value]) => value)];
  const [low, high, first, last] = [Math.min(...values), Math.max(...values), steps[0], steps.at(-1)];
  const x = (step) => 4 + ((width - 8) * (step - first)) / (last - first || 1);
  const y = (value) => 16 + ((height - 20) * (high - value)) / (high - low || 1);
  context.font = "11px sans-serif";
  context.fillStyle = "#bbb";
  const words = `${loss} ${Number(high.toPrecision(3))} to ${Number(low.toPrecision(3))}, step ${first} to ${last}`;
  context.fillText(words, 4, 11);
  canvas.ariaLabel = words;
  context.strokeStyle = "#7af";
  context.beginPath();
  curve.forEach(([step, value]) => context.lineTo(x(step), y(value)));
  context.stroke();
}
