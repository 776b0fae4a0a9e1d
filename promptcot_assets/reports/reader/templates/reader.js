"use strict";
// Keys, and the lists of a static export. Whatever a model wrote is set as text, never as markup.

const typing = () => /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
const follow = (selector) => document.querySelector(selector)?.click();

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return document.activeElement?.blur();
  if (typing()) return;
  const actions = {
    j: () => follow("a[rel=next]"),
    k: () => follow("a[rel=prev]"),
    u: () => follow("a[rel=up]"),
    h: () => follow("header a"),
    "/": () => document.querySelector("input[type=search]")?.focus(),
    m: () => document.querySelector("#mark input[name=reason]")?.focus(),
  };
  if (event.key in actions) {
    event.preventDefault();
    actions[event.key]();
  }
});

const element = (name, text, more = {}) => {
  const made = Object.assign(document.createElement(name), more);
  if (text !== undefined) made.textContent = text;
  return made;
};

function isolated(text, limit) {
  return element("bdi", text.length > limit ? text.slice(0, limit - 1) + "…" : text);
}

function list(form, data) {
  const shown = 100;
  const state = { page: 0, found: data.rows };
  const search = element("input", undefined, { type: "search", autocomplete: "off" });
  const label = (text, control) => {
    const made = element("label", text + " ");
    made.append(control);
    form.append(made);
    return control;
  };
  label("Search", search);
  const chosen = data.filters.map((at) => {
    const counts = new Map();
    for (const [, cells] of data.rows) counts.set(String(cells[at]), (counts.get(String(cells[at])) ?? 0) + 1);
    const select = element("select");
    select.append(element("option", "any", { value: "" }));
    for (const [value, count] of [...counts].sort((a, b) => b[1] - a[1]))
      select.append(element("option", `${value || "(none)"} (${count})`, { value: "=" + value }));
    return [at, label(data.columns[at], select)];
  });
  const sort = element("select");
  sort.append(element("option", "place", { value: "" }));
  for (const at of data.numbers) sort.append(element("option", data.columns[at], { value: String(at) }));
  label("Sort by", sort);
  const down = label("largest first", element("input", undefined, { type: "checkbox" }));
  const more = element("nav", undefined, { className: "around" });
  document.querySelector("#rows").after(more);

  const draw = () => {
    const body = document.querySelector("#rows tbody");
    body.replaceChildren();
    const first = state.page * shown;
    for (const [href, cells] of state.found.slice(first, first + shown)) {
      const row = element("tr");
      cells.forEach((cell, at) => {
        const text = typeof cell === "number" && !Number.isInteger(cell) ? String(+cell.toPrecision(4)) : String(cell);
        const held = element("td", undefined, { className: data.numbers.includes(at) ? "n" : "" });
        if (at === 0) {
          const link = element("a", undefined, { href: "../" + href });
          link.append(isolated(text || "(empty)", 140));
          held.append(link);
        } else held.append(isolated(text, data.columns[at] === "problem" ? 140 : 60));
        row.append(held);
      });
      body.append(row);
    }
    document.querySelector("#count").textContent =
      `${state.found.length.toLocaleString("en")} of ${data.rows.length.toLocaleString("en")} records`;
    more.replaceChildren();
    const step = (text, by) => {
      const button = element("button", text, { type: "button", disabled: state.page + by < 0 || (state.page + by) * shown >= state.found.length });
      button.addEventListener("click", () => { state.page += by; draw(); });
      more.append(button);
    };
    step("← previous page", -1);
    step("next page →", 1);
  };

  const find = () => {
    const wanted = search.value.trim().toLowerCase();
    state.found = data.rows.filter(
      ([, cells, text]) =>
        (!wanted || text.includes(wanted)) && chosen.every(([at, select]) => !select.value || "=" + String(cells[at]) === select.value),
    );
    if (sort.value) {
      const at = Number(sort.value), sign = down.checked ? -1 : 1;
      const value = (row) => (row[1][at] === "" ? null : Number(row[1][at]));
      state.found = [...state.found].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        return x === null ? (y === null ? 0 : 1) : y === null ? -1 : sign * (x - y);
      });
    }
    state.page = 0;
    draw();
  };
  form.addEventListener("input", find);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
}

const form = document.querySelector("#find");
if (form) {
  const script = element("script", undefined, { src: form.dataset.rows });
  script.addEventListener("load", () => list(form, window.reader));
  document.head.append(script);
}
