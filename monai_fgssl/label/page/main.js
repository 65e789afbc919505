// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Entry point of the page for annotators: joins all modules.
import { onChoice } from "./classes.js";
import { $ } from "./dom.js";
import "./heat.js";
import "./keys.js";
import { choose, start } from "./labeling.js";
import { refreshTrainings } from "./progress.js";
import { state } from "./state.js";
import { translatePage } from "./texts.js";
import { follow } from "./training.js";
import { draw as drawViews } from "./views.js";

translatePage();
onChoice(choose);
$("more").onclick = () => {
  const open = document.body.classList.toggle("more");
  $("more").setAttribute("aria-expanded", String(open));
};
drawViews();
state.busy = false;
if (await start()) {
  drawViews();
  refreshTrainings();
  follow();
}
