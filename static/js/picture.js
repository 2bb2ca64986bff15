// A canvas of the size that a model takes: drawn on, or filled from a file or a sample.

export class Picture {
  constructor(spec, changed) {
    this.spec = spec;
    this.changed = changed;
    this.canvas = document.getElementById("canvas");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.blacken();
    document.getElementById("clear").addEventListener("click", () => { this.blacken(); this.changed(); });
    document.getElementById("picture").addEventListener("change", event => this.load(event.target.files[0]));
    for (const button of document.querySelectorAll("#samples button")) {
      button.addEventListener("click", () => this.fill(button.firstElementChild));
    }
    const sample = document.querySelector("#samples img");
    if (sample) sample.decode().then(() => this.fill(sample));
    this.canvas.addEventListener("pointerdown", event => { this.canvas.setPointerCapture(event.pointerId); this.paint(event); });
    this.canvas.addEventListener("pointermove", event => { if (event.buttons) this.paint(event); });
  }

  blacken() {
    this.context.fillStyle = "black";
    this.context.fillRect(0, 0, this.spec.width, this.spec.height);
  }

  fill(image) {
    this.context.drawImage(image, 0, 0, this.spec.width, this.spec.height);
    this.changed();
  }

  async load(file) {
    if (!file) return;
    this.fill(await createImageBitmap(file));
  }

  /** What is drawn as an address, and back. */
  save() { return this.canvas.toDataURL(); }

  async restore(address) {
    const image = Object.assign(new Image(), { src: address });
    await image.decode();
    this.fill(image);
  }

  paint({ offsetX, offsetY }) {
    const { clientWidth, clientHeight } = this.canvas, { width, height } = this.spec;
    const x = offsetX * width / clientWidth, y = offsetY * height / clientHeight;
    this.context.fillStyle = "rgba(255, 255, 255, 0.7)";
    this.context.beginPath();
    this.context.arc(x, y, Math.max(0.6, width / 18), 0, 2 * Math.PI);
    this.context.fill();
    this.changed();
  }

  /** Rows of pixels, as the dataset had them: numbers from `low` to `high`. */
  read() {
    const { width, height, channels, has_channels, low, high } = this.spec;
    const { data } = this.context.getImageData(0, 0, width, height);
    const scale = value => low + (high - low) * value / 255;
    const pixel = at => {
      const [red, green, blue, alpha] = data.subarray(at, at + 4);
      if (channels === 1) return [scale((red + green + blue) / 3)];
      return [red, green, blue, alpha].slice(0, channels).map(scale);
    };
    return Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) => {
      const values = pixel(4 * (y * width + x)).map(value => +value.toFixed(4));
      return has_channels ? values : values[0];
    }));
  }
}
