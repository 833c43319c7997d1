// Sample Codes, Sweep Settings and Best of Many show the picture while it is painted, and then the finished ones. ComfyUI
// lets the last live preview stand before a node's outputs until the node starts again; this takes it away, so that the
// finished pictures are seen: each for itself, in full size, to be saved.
//
// Front ends drop a node's preview when they hear that it has started. They are told so here, of a run of no other name,
// and then once more how things stand.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

const DROPPED = 600; // milliseconds after which a preview is gone; ComfyUI waits 400
const TRIES = 5; // a message that comes in the same frame may hide ours
const idle = { prompt_id: "", nodes: {} };
let now = idle; // the last that was said of running nodes
let told = 0;

const frame = () => new Promise((done) => setTimeout(done, 60)); // timers go on in hidden pages, frames don't

function tell(detail) {
  api.dispatchEvent(new CustomEvent("progress_state", { detail: { ...detail, tessera: true } }));
}

// A node in subgraphs, "5:7", shows its previews on those around it, too: "5".
function withThoseAround(node) {
  const parts = node.split(":");
  return parts.map((_, i) => parts.slice(0, i + 1).join(":"));
}

function hasPreview(node) {
  const last = (name) => name.split(":").pop();
  return Object.entries(app.nodePreviewImages ?? {}).some(([name, urls]) => last(name) === last(node) && urls?.length);
}

// The node of such a name.
function nodeOf(name) {
  let [graph, node] = [app.rootGraph ?? app.graph, null];
  for (const part of name.split(":")) {
    node = graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return node;
}

// A node drawn on a canvas looks for its pictures again when its outputs are not those it has seen. What it shows stays
// until they have arrived.
function lookAgain(name) {
  const node = nodeOf(name);
  if (node) node.images = undefined;
  app.canvas?.setDirty(true, true);
}

// Vue nodes of some front ends (1.27 and 1.49 among them) keep the addresses that they found when the outputs came, the
// preview's. They look again when outputs come, so these are told once more. Those of 1.27 show them, as of any node,
// from a zoom of 80 percent on.
function tellOutputsAgain(detail) {
  const { tessera_finished, ...output } = detail.output;
  api.dispatchEvent(new CustomEvent("executed", { detail: { ...detail, output } }));
}

async function dropPreview(detail) {
  const nodes = withThoseAround(String(detail.display_node ?? detail.node));
  for (let i = 0; i < TRIES && nodes.some(hasPreview); i++) {
    const prompt_id = `tessera-${told++}`;
    const state = (node_id) => ({ node_id, display_node_id: node_id, prompt_id, state: "running", value: 1, max: 1 });
    tell({ prompt_id, nodes: {} });
    tell({ prompt_id, nodes: Object.fromEntries(nodes.map((name) => [name, state(name)])) });
    await frame();
    tell({ prompt_id, nodes: {} });
    await frame();
    tell(now);
    await new Promise((done) => setTimeout(done, DROPPED));
  }
  nodes.forEach(lookAgain);
  if (LiteGraph.vueNodesMode) tellOutputsAgain(detail);
}

api.addEventListener("progress_state", ({ detail }) => {
  if (!detail.tessera) now = detail;
});
for (const end of ["execution_success", "execution_error", "execution_interrupted"]) {
  api.addEventListener(end, () => { now = idle; });
}
api.addEventListener("executed", ({ detail }) => {
  if (detail.output?.tessera_finished) dropPreview(detail);
});

// What our nodes said last, how long it took or why nothing was painted, stays on them: newer front ends take such texts
// away when a run ends, so they are told once more.
const SETTLED = 300; // milliseconds after the end of a run
let [said, before] = [{}, {}]; // in this run and in the one before: node -> its last text

api.addEventListener("execution_start", () => { [said, before] = [{}, said]; });
api.addEventListener("execution_cached", ({ detail }) => {
  for (const node of detail.nodes ?? []) if (node in before) said[node] = before[node];
});
api.addEventListener("progress_text", ({ detail }) => {
  if (nodeOf(String(detail.nodeId))?.type?.startsWith("Tessera")) said[detail.nodeId] = detail.text;
});
for (const end of ["execution_success", "execution_error", "execution_interrupted"]) {
  api.addEventListener(end, () => setTimeout(() => {
    for (const [nodeId, text] of Object.entries(said)) {
      api.dispatchEvent(new CustomEvent("progress_text", { detail: { nodeId, text } }));
    }
  }, SETTLED));
}
