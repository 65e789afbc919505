// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// All images in a grid, filtered and sorted. Several can be labeled at once. Only the visible part is drawn.
import { $, element, percent } from "./dom.js";
import { hasName, namesOf, sameLabel, several, textOf, toggled } from "./findings.js";
import { openList, refreshInfo } from "./labeling.js";
import { change, undo } from "./labels.js";
import { act, announce, showError } from "./messages.js";
import { getJson } from "./server.js";
import { changed, onChange, state } from "./state.js";
import { t } from "./texts.js";
import { showThumbnail } from "./thumbnails.js";
import { filterOf, inReview, onView, setFilter, showView } from "./views.js";

const TILE = 168;
const ROW = 212;
const SPARE_ROWS = 2;

const SHOWN = {
  all: () => true,
  unlabeled: (image) => image.class === null,
  labeled: (image) => image.class !== null,
  nothing: (image) => image.class !== null && namesOf(image.class).length === 0,
  differs: (image) => image.class !== null && hasSuggestion(image) && !sameLabel(image.class, image.suggestion),
  unread: (image) => image.class !== null && !(state.info.user in (image.readings ?? {})),
  unsure: (image) => Boolean(image.unsure),
  skipped: (image) => Boolean(image.skipped),
  unreadable: (image) => Boolean(image.unreadable),
};

const hasSuggestion = ({ suggestion }) => suggestion !== null && suggestion !== undefined;

// Filters that make sense only in some cases.
const MAY_SHOW = { unread: () => state.info.user !== null, nothing: several };

// Entry of the list of findings; no finding has this name.
const NOTHING = " ";

const ORDERS = {
  doubt: (a, b) => (b.doubt ?? -1) - (a.doubt ?? -1),
  name: () => 0,
};

// All images as the server lists them, those that pass the filter, and those that are selected.
let images = [];
let found = [];
const selected = new Set();
// Number of the tile that has the focus, and where a range began.
let focused = 0;
let anchor = 0;

const filters = () => ["show", "class", "person", "sort"].map((name) => $(`filter-${name}`));

const columns = () => Math.max(1, Math.floor($("grid").clientWidth / TILE));

// True if the list must be fetched as soon as no action is running.
let isDue = false;

async function load() {
  isDue = state.busy;
  if (isDue) return;
  await act(t("images_not_listed"), async () => {
    images = await getJson("/fgssl/images");
    await refreshInfo();
    filter();
  }, load);
}

function filter() {
  const wanted = filterOf();
  fillFilters();
  for (const select of filters()) select.value = wanted.get(select.name) ?? "";
  const [show, name, person, sort] = ["show", "class", "person", "sort"].map((key) => wanted.get(key) ?? "");
  found = images
    .filter(SHOWN[show] ?? SHOWN.all)
    .filter((image) => !name || hasName(image.class, name))
    .filter((image) => !person || image.user === person)
    .sort(ORDERS[sort] ?? ORDERS.doubt);
  const kept = new Set(found.map(({ id }) => id));
  for (const id of selected) if (!kept.has(id)) selected.delete(id);
  focused = Math.max(0, Math.min(focused, found.length - 1));
  draw();
}

// ---------------------------------------------------------------- what is seen

function fillFilters() {
  const options = (select, entries) => {
    const { value } = select;
    const shown = [...select.options].map((option) => [option.value, option.text]);
    if (String(shown) === String(entries)) return;
    select.replaceChildren(...entries.map(([key, text]) => {
      const option = new Option(text, key);
      option.dataset.name = key;
      return option;
    }));
    select.value = entries.some(([key]) => key === value) ? value : "";
  };
  const counts = state.info.counts ?? {};
  const people = [...new Set(images.map(({ user }) => user).filter(Boolean))].sort();
  options($("filter-show"), Object.keys(SHOWN).filter((key) => MAY_SHOW[key]?.() ?? true).map((key) => [key === "all" ? "" : key, t(`show_${key}`)]));
  options($("filter-class"), [["", t("every_class")], ...state.info.classes.map((name) => [name, `${name} (${counts[name] ?? 0})`])]);
  options($("filter-person"), [["", t("everybody")], ...people.map((name) => [name, name])]);
  options($("filter-sort"), Object.keys(ORDERS).map((key) => [key === "doubt" ? "" : key, t(`sort_${key}`)]));
  $("person-filter").hidden = people.length === 0;
  $("show-agreement").hidden = state.info.user === null;
  const first = several() ? [["", t("give_finding")], [NOTHING, t("nothing")]] : [["", t("give_class")]];
  options($("give-class"), [...first, ...state.info.classes.map((name) => [name, name])]);
}

// Tiles on the page by image. A tile stays the same element as long as it is seen: a press on an element that is
// replaced before it is released would be no click.
let drawn = new Map();

function tile(index) {
  const image = found[index];
  const made = drawn.get(image.id) ?? element("div", "tile");
  made.role = "option";
  made.id = `tile-${index}`;
  made.dataset.index = index;
  made.dataset.name = image.id;
  made.ariaSelected = String(selected.has(image.id));
  made.ariaSetSize = String(found.length);
  made.ariaPosInSet = String(index + 1);
  made.classList.toggle("focused", index === focused);
  made.style.insetInlineStart = `${(index % columns()) * TILE}px`;
  made.style.top = `${Math.floor(index / columns()) * ROW}px`;
  made.title = image.unreadable ?? image.id;
  const picture = made.querySelector(".thumbnail") ?? element("div", "thumbnail");
  showThumbnail(picture, image.id);
  const marks = [
    image.unreadable && t("mark_unreadable"),
    image.unsure && t("mark_unsure"),
    image.skipped && t("mark_skipped"),
  ].filter(Boolean);
  picture.replaceChildren(...marks.map((text) => element("span", "mark", text)));
  const label = element("span", image.class === null ? "label none" : "label", image.class === null ? t("no_label") : textOf(image.class));
  const model = element("span", SHOWN.differs(image) ? "model other" : "model");
  if (hasSuggestion(image))
    model.append(element("span", "label", textOf(image.suggestion)), " ", t("doubt_of", { doubt: percent(image.doubt) }));
  while (made.children.length > 1) made.lastChild.remove();
  if (!picture.isConnected) made.replaceChildren(picture);
  made.append(label, model);
  return made;
}

function drawGrid() {
  const grid = $("grid");
  const rows = Math.ceil(found.length / columns());
  $("tiles").style.height = `${rows * ROW}px`;
  const first = Math.max(0, Math.floor(grid.scrollTop / ROW) - SPARE_ROWS) * columns();
  const last = (Math.ceil((grid.scrollTop + grid.clientHeight) / ROW) + SPARE_ROWS) * columns();
  const seen = found.slice(first, last).map((_, number) => tile(first + number));
  drawn = new Map(seen.map((made) => [made.dataset.name, made]));
  const kept = new Set(seen);
  for (const old of [...$("tiles").children]) if (!kept.has(old)) old.remove();
  seen.forEach((made, place) => {
    const there = $("tiles").children[place] ?? null;
    if (there !== made) $("tiles").insertBefore(made, there);
  });
  if (found.length > 0) grid.setAttribute("aria-activedescendant", `tile-${focused}`);
  else grid.removeAttribute("aria-activedescendant");
}

function draw() {
  if (!inReview()) return;
  fillFilters();
  drawGrid();
  $("found").textContent = t("found", { count: found.length, total: images.length });
  $("selection").hidden = selected.size === 0;
  $("selected").textContent = t("selected", { count: selected.size });
  $("nothing-found").hidden = found.length > 0;
}

// ---------------------------------------------------------------- what people do

function select(index, { range = false, toggle = true } = {}) {
  if (!found[index]) return;
  if (range) {
    const [low, high] = [Math.min(anchor, index), Math.max(anchor, index)];
    found.slice(low, high + 1).forEach(({ id }) => selected.add(id));
  } else {
    const { id } = found[index];
    if (toggle && selected.has(id)) selected.delete(id);
    else selected.add(id);
    anchor = index;
  }
  focused = index;
  draw();
}

function clearSelection() {
  selected.clear();
  draw();
}

function selectAll() {
  found.forEach(({ id }) => selected.add(id));
  draw();
}

function move(step) {
  focused = Math.max(0, Math.min(focused + step, found.length - 1));
  const top = Math.floor(focused / columns()) * ROW;
  const grid = $("grid");
  grid.scrollTop = Math.min(top, Math.max(grid.scrollTop, top + ROW - grid.clientHeight));
  draw();
}

// The rest of what is shown follows, one image after another.
async function openFocused() {
  await openAll(found.slice(focused).map(({ id }) => id));
}

async function openAll([first, ...rest]) {
  if (!first) return;
  const opened = openList(first, rest);
  showView("label");
  await opened;
}

// The images that an action changes: the selected ones, or else the one with the focus.
function concerned() {
  const chosen = found.filter(({ id }) => selected.has(id));
  return chosen.length > 0 ? chosen : found.slice(focused, focused + 1);
}

const give = (what, chosen = concerned()) => act(t("not_saved"), async () => {
  try {
    await change(chosen, what);
    selected.clear();
    announce(t("changed_images", { count: chosen.length }));
  } finally {
    await refreshInfo();
    // Images keep their places until the filter changes, so that nothing moves while a person works.
    draw();
  }
});

export const takeBackHere = () => act(t("not_undone"), async () => {
  const before = await undo();
  for (const image of before)
    Object.assign(images.find(({ id }) => id === image.id) ?? {}, { unsure: false, skipped: false }, image);
  if (before.length > 0) announce(t("undone", { count: before.length }));
  await refreshInfo();
  draw();
});

// A finding is taken away if all images have it. Images without a label are left: it would say of the other findings that
// they are not there.
async function toggleSelected(name) {
  const chosen = concerned();
  const labeled = chosen.filter(({ class: label }) => label !== null);
  const remove = labeled.every(({ class: label }) => hasName(label, name));
  const given = (label) => (hasName(label, name) === remove ? toggled(label, name) : label);
  if (labeled.length > 0) await give(({ class: label }) => ({ class: given(label) }), labeled);
  if (labeled.length < chosen.length) announce(t("left_unlabeled", { count: chosen.length - labeled.length }));
}

export const labelSelected = (name) => (several() ? toggleSelected(name) : give({ class: name }));

export function onReviewKey({ key, shiftKey, ctrlKey, target }) {
  if (target.matches?.("select, button")) return null;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns(), Home: -found.length, End: found.length };
  if (ctrlKey) return key === "a" ? selectAll : null;
  if (key in steps) return () => move(steps[key]);
  if (key === " ") return () => select(focused, { range: shiftKey });
  if (key === "Enter") return openFocused;
  if (key === "u") return () => give({ unsure: !concerned().every(({ unsure }) => unsure) });
  return key === "Delete" ? () => give({ class: null }) : null;
}

function onFilter() {
  const wanted = new URLSearchParams();
  for (const select of filters())
    if (select.value) wanted.set(select.name, select.value);
  setFilter(wanted);
  selected.clear();
  focused = 0;
  $("grid").scrollTop = 0;
  filter();
}

// Opens the images that two people differ on.
async function showAgreement() {
  try {
    const pairs = await getJson("/fgssl/agreement");
    const written = (kappa) => (kappa === null ? "–" : kappa.toFixed(2));
    $("pairs").replaceChildren(...pairs.map(({ people, images: count, agreed, kappa, findings, differ }) => {
      const line = element("p");
      const [first, second] = people;
      line.append(t(findings ? "pair_findings" : "pair", { first, second, count, agreed, kappa: written(kappa) }), " ");
      for (const one of findings ?? []) {
        const part = element("span", "finding");
        part.dataset.name = one.name;
        part.append(element("b", "label", one.name), " ", t("pair_finding", { agreed: one.agreed, count, kappa: written(one.kappa) }), " ");
        line.append(part);
      }
      line.dataset.name = people.join(" ");
      if (differ.length === 0) return line;
      const button = element("button", "", t("open_differing", { count: differ.length }));
      button.type = "button";
      button.onclick = () => {
        $("agreement").close();
        openAll(differ);
      };
      line.append(button);
      return line;
    }));
    if (pairs.length === 0) $("pairs").textContent = t("no_pairs");
    $("agreement").showModal();
  } catch (error) {
    showError(t("agreement_not_known"), error);
  }
}

const indexOf = (event) => Number(event.target.closest(".tile")?.dataset.index ?? NaN);

onChange(() => {
  if (isDue && inReview()) load();
  draw();
});
let wasShown = false;
onView(() => {
  if (inReview() && state.info && !wasShown) load();
  else if (inReview() && wasShown) filter();
  wasShown = inReview() && Boolean(state.info);
});
$("grid").onscroll = drawGrid;
new ResizeObserver(() => inReview() && drawGrid()).observe($("grid"));
$("grid").onclick = (event) => select(indexOf(event), { range: event.shiftKey });
$("grid").ondblclick = (event) => {
  if (!found[indexOf(event)]) return;
  focused = indexOf(event);
  selected.clear();
  openFocused();
};
for (const select of filters()) select.onchange = onFilter;
$("show-agreement").onclick = showAgreement;
$("agreement-close").onclick = () => $("agreement").close();
$("open-focused").onclick = openFocused;
$("select-all").onclick = selectAll;
$("clear-selection").onclick = clearSelection;
$("mark-unsure").onclick = () => give({ unsure: true });
$("mark-sure").onclick = () => give({ unsure: false });
$("remove-labels").onclick = () => give({ class: null });
$("give-class").onchange = (event) => {
  const name = event.target.value;
  event.target.value = "";
  if (name === NOTHING) give({ class: [] });
  else if (name) labelSelected(name);
};
