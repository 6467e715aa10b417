"use strict";
// Filters of the list. The list itself is in the page: without this script it can be read as it stands.

const WORDS = { 1: "right", p: "partly", 0: "wrong", u: "unread", f: "failed", w: "waiting", d: "dropped", "-": "" };
const marks = JSON.parse(document.getElementById("marks").textContent);
const form = document.getElementById("filters");
const rows = [...document.querySelectorAll(".list tbody tr")];
const texts = rows.map((row) => row.cells[1].textContent.toLowerCase());
const names = Object.fromEntries([...form.elements.mark.options].map((option) => [option.value, option.textContent]));

function changed(change, here, there) {
  if (there === "") return false;
  if (change === "gained") return here === "right" && there !== "right";
  if (change === "lost") return here !== "right" && there === "right";
  return here !== there;
}

function showThere(other) {
  const head = document.getElementById("there");
  if (!head) return;
  head.hidden = other === "";
  rows.forEach((row, i) => {
    const cell = row.cells[4];
    cell.hidden = other === "";
    const there = other === "" ? "" : WORDS[marks[other][i]];
    cell.replaceChildren();
    if (there) {
      const badge = document.createElement("span");
      badge.className = `is is-${there}`;
      badge.textContent = names[there];
      cell.append(badge);
    }
  });
  form.elements.change.disabled = other === "";
}

function apply() {
  const values = Object.fromEntries(new FormData(form));
  const needle = values.text.trim().toLowerCase();
  const other = values.other || "";
  const change = other === "" ? "" : values.change;
  let count = 0;
  rows.forEach((row, i) => {
    const here = row.dataset.mark;
    const fits = (!values.mark || here === values.mark) && (!needle || texts[i].includes(needle)) &&
      (!change || changed(change, here, WORDS[marks[other][i]]));
    row.hidden = !fits;
    count += fits;
  });
  document.getElementById("shown").value = `${count.toLocaleString()} of ${rows.length.toLocaleString()}`;
}

form.hidden = false;
form.addEventListener("input", (event) => {
  if (event.target.name === "other") showThere(event.target.value);
  apply();
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(() => { showThere(""); apply(); }));
apply();
