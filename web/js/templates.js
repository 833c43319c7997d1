// ComfyUI lists a pack's workflows in the order in which the disk happens to give them. Ours are numbered, those to begin
// with first: here they are put in that order. Other packs' lists stay as they are.

import { api } from "../../../scripts/api.js";

const [, folder] = /\/extensions\/([^/]+)\//.exec(new URL(import.meta.url).pathname) ?? [];
const listed = api.getWorkflowTemplates?.bind(api);

if (listed && folder) {
  api.getWorkflowTemplates = async () => {
    const all = await listed();
    all[decodeURIComponent(folder)]?.sort();
    return all;
  };
}
