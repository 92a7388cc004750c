// Slices of a study as raw numbers: asked for once, outwards from the one on the screen, and kept.

const AT_ONCE = 3;
const MOST_BYTES = 400e6;

export class Slices {
  // `address` is where slice N is, as address/N; `ahead`, how many are fetched to either side at most.
  constructor(address, count, arrived, ahead = count) {
    this.address = address;
    this.ahead = ahead;
    this.count = count;
    this.arrived = arrived;
    this.here = 1;
    this.kept = new Map();
    this.asked = new Set();
    this.bytes = 0;
  }

  // The slice, or undefined while it is on its way; {failure} where it cannot be shown.
  at(number) {
    return this.kept.get(number);
  }

  moveTo(number) {
    this.here = number;
    this.fetchMore();
  }

  fetchMore() {
    while (this.asked.size < AT_ONCE) {
      const number = this.wanted();
      if (number === undefined) return;
      this.asked.add(number);
      this.fetch(number).finally(() => {
        this.asked.delete(number);
        this.fetchMore();
      });
    }
  }

  wanted() {
    const reach = this.bytes < MOST_BYTES ? this.ahead : Math.min(this.ahead, 12);
    for (let distance = 0; distance <= reach; distance++) {
      for (const number of [this.here + distance, this.here - distance]) {
        if (number >= 1 && number <= this.count && !this.kept.has(number) && !this.asked.has(number)) return number;
      }
    }
    return undefined;
  }

  async fetch(number) {
    let found;
    try {
      const response = await fetch(`${this.address}/${number}`);
      if (response.ok) {
        const pixels = new Int16Array(await response.arrayBuffer());
        found = { pixels, ...JSON.parse(response.headers.get("x-slice")) };
        this.bytes += pixels.byteLength;
      } else {
        found = { failure: (await response.text()).trim() };
      }
    } catch {
      found = { failure: "the server does not answer; is 'haemo serve' still running?" };
    }
    this.kept.set(number, found);
    this.forgetFarthest(number);
    this.arrived(number);
  }

  forgetFarthest(latest) {
    while (this.bytes > MOST_BYTES) {
      const others = [...this.kept.keys()].filter((number) => number !== latest && this.kept.get(number).pixels);
      if (!others.length) return;
      const far = others.reduce((a, b) => (Math.abs(a - this.here) > Math.abs(b - this.here) ? a : b));
      this.bytes -= this.kept.get(far).pixels.byteLength;
      this.kept.delete(far);
    }
  }
}
