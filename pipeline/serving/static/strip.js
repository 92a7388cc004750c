// The strip under the picture: a bar a slice, as high as its probability.

import { svg } from "./screen.js";

const HIGH = 100;

export class Strip {
  constructor(place, count, go) {
    this.place = place;
    this.count = count;
    place.setAttribute("viewBox", `0 0 ${count} ${HIGH}`);
    this.here = svg("rect", { class: "here", y: 0, width: 1, height: HIGH });
    place.append(this.here);
    place.addEventListener("click", (event) => {
      const box = place.getBoundingClientRect();
      go(1 + Math.min(count - 1, Math.floor(((event.clientX - box.left) / box.width) * count)));
    });
  }

  moveTo(number) {
    this.here.setAttribute("x", number - 1);
  }

  fill(slices) {
    const parts = [];
    slices.forEach((slice, place) => {
      if (slice.probability !== null) {
        const height = Math.max(1, slice.probability * HIGH);
        const kind = slice.outside ? "doubt" : positive(slice) ? "high" : "low";
        parts.push(svg("rect", { class: kind, x: place + 0.08, width: 0.84, y: HIGH - height, height }));
      }
      if (slice.failure) parts.push(svg("rect", { class: "unusable", x: place, width: 1, y: 0, height: HIGH }));
      if (slice.outlines.length) {
        parts.push(svg("rect", { class: "outlined", x: place + 0.08, width: 0.84, y: HIGH - 5, height: 5 }));
      }
    });
    const limit = slices.find((slice) => slice.threshold !== null)?.threshold;
    if (limit !== undefined) {
      const y = HIGH * (1 - limit);
      parts.push(svg("line", { class: "limit", x1: 0, x2: this.count, y1: y, y2: y }));
    }
    this.place.replaceChildren(...parts, this.here);
  }
}

export function positive(slice) {
  return slice.probability !== null && slice.threshold !== null && slice.probability >= slice.threshold;
}
