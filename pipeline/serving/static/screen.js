// Raw numbers through a window onto a canvas. A table of all 65,536 values makes it one look-up a pixel.

export const PRESETS = {
  HU: [
    { name: "Brain", width: 80, level: 40 },
    { name: "Subdural", width: 200, level: 75 },
    { name: "Stroke", width: 40, level: 40 },
    { name: "Soft tissue", width: 350, level: 50 },
    { name: "Bone", width: 2800, level: 600 },
  ],
  gray: [
    { name: "As it is", width: 255, level: 127.5 },
    { name: "Darker", width: 255, level: 170 },
    { name: "Brighter", width: 255, level: 85 },
    { name: "Contrast", width: 128, level: 127.5 },
  ],
};

const table = new Uint32Array(65536);
let tableIs = "";

function fillTable(width, level) {
  const wanted = `${width} ${level}`;
  if (wanted === tableIs) return;
  tableIs = wanted;
  const low = level - width / 2;
  for (let value = -32768; value < 32768; value++) {
    const gray = Math.max(0, Math.min(255, Math.round(((value - low) / width) * 255)));
    table[value & 0xffff] = 0xff000000 | (gray << 16) | (gray << 8) | gray;
  }
}

export function draw(canvas, slice, width, level) {
  fillTable(width, level);
  if (canvas.width !== slice.width || canvas.height !== slice.height) {
    canvas.width = slice.width;
    canvas.height = slice.height;
  }
  const context = canvas.getContext("2d");
  const image = context.createImageData(slice.width, slice.height);
  const target = new Uint32Array(image.data.buffer);
  const { pixels } = slice;
  for (let place = 0; place < pixels.length; place++) target[place] = table[pixels[place] & 0xffff];
  context.putImageData(image, 0, 0);
}

export function drawSmall(canvas, slice, width, level, spare) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!slice?.pixels) return;
  draw(spare, slice, width, level);
  const scale = Math.min(canvas.width / spare.width, canvas.height / spare.height);
  const [w, h] = [spare.width * scale, spare.height * scale];
  context.drawImage(spare, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
}

// Width over height on the screen, by the spacing of the pixels where it is known.
export function shape(slice) {
  const [down, across] = slice.spacing ?? [1, 1];
  return (slice.width * across) / (slice.height * down);
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Outlines in pixels of the slice, where the centre of the first pixel is (0, 0).
export function drawOutlines(place, slice, outlines) {
  place.setAttribute("viewBox", `-0.5 -0.5 ${slice.width * slice.step} ${slice.height * slice.step}`);
  place.setAttribute("preserveAspectRatio", "none");
  place.replaceChildren(
    ...outlines.map((one) => {
      const lines = one.rings.map((ring) => `M${ring.map((point) => point.join(" ")).join("L")}Z`);
      return svg("path", { d: lines.join("") });
    }),
  );
}
