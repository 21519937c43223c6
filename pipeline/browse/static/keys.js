"use strict";
// Keys, the slider of insertion and deletion, and filters folded away on small screens. Every page works without it.

const cards = [...document.querySelectorAll(".card .open")];
const help = document.getElementById("keys");
const button = document.getElementById("keys-button");

function follow(relation) {
  const link = document.querySelector(`link[rel="${relation}"]`);
  if (link) location.assign(link.href);
}

function columns() {
  if (cards.length < 2) return 1;
  const top = cards[0].getBoundingClientRect().top;
  const other = cards.findIndex((card) => card.getBoundingClientRect().top !== top);
  return other < 0 ? cards.length : other;
}

function move(by) {
  const now = cards.findIndex((card) => card.closest(".card").contains(document.activeElement));
  const next = now < 0 ? 0 : Math.min(Math.max(now + by, 0), cards.length - 1);
  cards[next].focus();
  cards[next].closest(".card").scrollIntoView({ block: "nearest" });
}

function tick() {
  const box = document.activeElement.closest?.(".card")?.querySelector("input[type=checkbox]");
  if (box) box.checked = !box.checked;
}

const inGrid = {
  j: () => move(1), ArrowRight: () => move(1), k: () => move(-1), ArrowLeft: () => move(-1),
  ArrowDown: () => move(columns()), ArrowUp: () => move(-columns()),
  n: () => follow("next"), p: () => follow("prev"), x: tick,
  "/": () => { document.querySelector(".filters").open = true; document.querySelector("#filters select").focus(); },
};
const inSample = {
  j: () => follow("next"), ArrowRight: () => follow("next"), k: () => follow("prev"), ArrowLeft: () => follow("prev"),
  u: () => follow("up"),
};
const actions = cards.length ? inGrid : inSample;

button.hidden = false;
button.addEventListener("click", () => help.showModal());
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), select, textarea, [tabindex='0']");
  if (typing || help.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const action = event.key === "?" ? () => help.showModal() : actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

for (const player of document.querySelectorAll(".player")) {
  const [slider, picture, told, play] = ["input", "img", "output", ".play"].map((name) => player.querySelector(name));
  const scores = player.dataset.scores ? player.dataset.scores.split(",") : [];
  const show = () => {
    picture.src = `${player.dataset.address}&step=${slider.value}`;
    const score = scores.length ? `, target score ${Number(scores[slider.value]).toFixed(3)}` : "";
    told.textContent = `step ${slider.value} of ${slider.max}${score}`;
  };
  let playing = false;
  const next = () => {
    if (!playing) return;
    if (Number(slider.value) === Number(slider.max)) { stop(); return; }
    slider.value = Number(slider.value) + 1;
    show();
  };
  const stop = () => { playing = false; play.textContent = "Play"; };
  slider.addEventListener("input", () => { stop(); show(); });
  // The next step follows the picture of the last one, so that a slow machine does not pile them up.
  picture.addEventListener("load", () => setTimeout(next, 150));
  play.hidden = false;
  play.addEventListener("click", () => {
    if (playing) { stop(); return; }
    playing = true;
    play.textContent = "Pause";
    if (slider.value === slider.max) slider.value = 0;
    show();
  });
  show();
}

if (matchMedia("(max-width: 52rem)").matches) document.querySelector(".filters")?.removeAttribute("open");
