// Measures how long the event loop is blocked, which is how long signals have to wait.

/** Milliseconds between two samples. */
const interval = 20;

/** Samples the clock as the event loop turns, until `stop`. Does not keep the process alive. */
export class EventLoopWatch {
  private last = performance.now();
  /** The blocked time that ended with the last sample. */
  private latest = 0;
  private longestYet = 0;
  private readonly timer = setInterval(() => this.sample(), interval).unref();

  /** The longest blocked time so far, in seconds. */
  get longest(): number {
    this.sample();
    return this.longestYet;
  }

  /** The blocked time that has just ended, in seconds: an event handled now may have waited that long. */
  get justEnded(): number {
    this.sample();
    return this.latest;
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private sample(): void {
    const now = performance.now();
    // Timers run before signals in a turn, so this may be the second sample after the same blocked time.
    if (now - this.last < interval / 2) return;
    this.latest = Math.max(0, now - this.last - interval) / 1e3;
    this.last = now;
    this.longestYet = Math.max(this.longestYet, this.latest);
  }
}
