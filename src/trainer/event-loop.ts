// How long the event loop is kept from turning: so long a signal waits until it is heard.

/** Milliseconds between two looks. */
const interval = 20;

/** Looks at the clock in every turn of the event loop, until `stop`. Does not keep the process alive. */
export class EventLoopWatch {
  private last = performance.now();
  /** The stretch that ended with the last look. */
  private latest = 0;
  private longestYet = 0;
  private readonly timer = setInterval(() => this.look(), interval).unref();

  /** The longest stretch so far, in seconds. */
  get longest(): number {
    this.look();
    return this.longestYet;
  }

  /** The stretch that has just ended, in seconds: what is heard now may have waited for so long. */
  get justEnded(): number {
    this.look();
    return this.latest;
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private look(): void {
    const now = performance.now();
    // Timers come before signals in a turn: another look at the end of the same stretch is none at a new one.
    if (now - this.last < interval / 2) return;
    this.latest = Math.max(0, now - this.last - interval) / 1e3;
    this.last = now;
    this.longestYet = Math.max(this.longestYet, this.latest);
  }
}
