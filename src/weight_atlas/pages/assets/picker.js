// A searchable list of metrics: a combobox, filtered by every word that is typed.
"use strict";

class Picker {
  // options: [{id, title, group, words}] in their order; chosen(id): one was picked.
  constructor(input, list, options, chosen) {
    Object.assign(this, { input, list, options, chosen, current: null, active: -1 });
    input.addEventListener("focus", () => input.select());
    input.addEventListener("click", () => this.open(""));
    input.addEventListener("input", () => this.open(input.value));
    input.addEventListener("keydown", (event) => this.key(event));
    input.addEventListener("blur", () => setTimeout(() => this.close(), 150));
  }

  set(id) {
    this.current = this.options.find((option) => option.id === id) ?? null;
    this.input.value = this.current?.title ?? "";
  }

  open(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    this.found = this.options.filter((option) => words.every((word) => option.words.includes(word)));
    this.list.replaceChildren();
    let group = null;
    let holder = null;
    this.found.forEach((option, number) => {
      if (option.group !== group) {
        group = option.group;
        holder = atlas.make("div", { role: "group", "aria-label": group }, atlas.make("div", { class: "group", "aria-hidden": "true" }, group));
        this.list.append(holder);
      }
      const element = atlas.make("div", { role: "option", id: `${this.list.id}-${number}`, "aria-selected": option === this.current ? "true" : "false" }, option.title);
      element.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        this.pick(number);
      });
      holder.append(element);
    });
    if (!this.found.length) this.list.append(atlas.make("div", { class: "none", role: "option", "aria-disabled": "true", "aria-selected": "false" }, "no metric has these words"));
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.mark(words.length ? 0 : this.found.indexOf(this.current));
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.input.value = this.current?.title ?? "";
  }

  mark(number) {
    this.list.querySelector(".active")?.classList.remove("active");
    this.active = number;
    const element = number >= 0 && document.getElementById(`${this.list.id}-${number}`);
    if (!element) return;
    element.classList.add("active");
    element.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", element.id);
  }

  pick(number) {
    const option = this.found?.[number];
    if (!option) return;
    this.set(option.id);
    this.close();
    this.chosen(option.id);
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (this.list.hidden) this.open("");
      else this.mark(Math.max(0, Math.min(this.found.length - 1, this.active + step)));
    } else if (event.key === "Enter") {
      event.preventDefault();
      this.pick(this.active);
    } else if (event.key === "Escape") {
      this.close();
    }
  }
}
