// The window of a picture: presets as buttons, and width and level by dragging.

import { PRESETS } from "./screen.js";

export class Window {
  // `changed` is called whenever the window is another.
  constructor(stage, presets, label, changed) {
    Object.assign(this, { stage, place: presets, label, changed, unit: "", width: 1, level: 0 });
    let grip = null;
    stage.addEventListener("pointerdown", (event) => {
      if (event.button || !this.unit || event.pointerType === "touch") return;
      stage.setPointerCapture(event.pointerId);
      grip = { x: event.clientX, y: event.clientY, width: this.width, level: this.level };
    });
    stage.addEventListener("pointermove", (event) => {
      if (!grip) return;
      const pace = Math.max(0.5, grip.width / 200);
      this.set(grip.width + (event.clientX - grip.x) * pace, grip.level - (event.clientY - grip.y) * pace);
    });
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => (grip = null));
  }

  // HU or gray levels; the first preset of another unit is taken.
  setUnit(unit, shortcuts) {
    if (unit === this.unit) return;
    this.unit = unit;
    this.place.replaceChildren(
      ...PRESETS[unit].map((preset, number) => {
        const button = document.createElement("button");
        button.type = "button";
        button.append(preset.name);
        if (shortcuts) {
          const shortcut = document.createElement("kbd");
          shortcut.textContent = String(number + 1);
          button.append(" ", shortcut);
        }
        button.addEventListener("click", () => this.set(preset.width, preset.level));
        return button;
      }),
    );
    this.preset(1);
  }

  preset(number) {
    const preset = this.unit && PRESETS[this.unit][number - 1];
    if (preset) this.set(preset.width, preset.level);
    return Boolean(preset);
  }

  set(width, level) {
    this.width = Math.max(1, Math.round(width));
    this.level = Math.round(level);
    this.label.textContent = `W ${this.width} L ${this.level}`;
    PRESETS[this.unit].forEach((preset, number) => {
      const same = Math.round(preset.width) === this.width && Math.round(preset.level) === this.level;
      this.place.children[number].setAttribute("aria-pressed", String(same));
    });
    this.changed();
  }
}

// What stands under the pointer, as text.
export function probed(event, box, slice) {
  const column = Math.floor(((event.clientX - box.left) / box.width) * slice.width);
  const row = Math.floor(((event.clientY - box.top) / box.height) * slice.height);
  if (column < 0 || row < 0 || column >= slice.width || row >= slice.height) return "";
  const value = slice.pixels[row * slice.width + column];
  return `${value}${slice.unit === "HU" ? " HU" : ""} at ${column * slice.step}, ${row * slice.step}`;
}
