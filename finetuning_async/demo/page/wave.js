"use strict";

// Draws the loudness of a track; the part that was played is in the accent colour.
class Wave {
  constructor(canvas) {
    this.canvas = canvas;
    this.peaks = [];
    this.played = 0;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  clear() {
    this.peaks = [];
    this.played = 0;
    this.draw();
  }

  // Decoded by an offline context: a normal one may not start before the user clicks.
  async load(bytes) {
    const context = new OfflineAudioContext(1, 1, 22050);
    const sound = await context.decodeAudioData(bytes);
    this.peaks = Wave.peaks(sound.getChannelData(0), 180);
    this.draw();
  }

  static peaks(samples, count) {
    const step = samples.length / count;
    const peaks = [];
    for (let n = 0; n < count; n++) {
      let sum = 0;
      const from = Math.floor(n * step), to = Math.floor((n + 1) * step);
      for (let at = from; at < to; at += 8) sum += samples[at] * samples[at];
      peaks.push(Math.sqrt(sum / Math.max(1, (to - from) / 8)));
    }
    const loudest = Math.max(...peaks, 1e-6);
    return peaks.map((peak) => peak / loudest);
  }

  at(share) {
    this.played = share;
    this.draw();
  }

  draw() {
    const { canvas } = this, ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d"), style = getComputedStyle(canvas);
    pen.scale(ratio, ratio);
    const bars = Math.max(1, Math.floor(width / 5));
    for (let n = 0; n < bars; n++) {
      const peak = this.peaks[Math.floor((n * this.peaks.length) / bars)] || 0;
      const tall = Math.max(3, peak * (height - 6));
      pen.fillStyle = n / bars < this.played ? style.accentColor : style.color;
      pen.beginPath();
      pen.roundRect(n * 5 + 1, (height - tall) / 2, 3, tall, 1.5);
      pen.fill();
    }
  }
}
