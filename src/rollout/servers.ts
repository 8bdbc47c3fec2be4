// Distributes jobs over several equivalent HTTP servers, by group. A job is repeated if a server fails, and moves to another
// server if that one does not recover.

/** A server that failed: no connection, a status such as 500, or no response in time. The job is repeated. */
export class ServerFault extends Error {
  override name = 'ServerFault';
}

/** An unusable response from a working server. The job is repeated. */
export class AnswerFault extends Error {
  override name = 'AnswerFault';
}

export interface ServerSettings {
  urls: readonly string[];
  /** Concurrent jobs per server. */
  concurrency: number;
  /** Consecutive failures after which a job ends the run, and a server is not used until the next call. */
  retries: number;
  /** Milliseconds until a server is tried again. Doubles with each consecutive failure, up to `longestBackOff`. */
  backOff: number;
}

/** In milliseconds. */
const longestBackOff = 30_000;

export interface Job<T> {
  /** Jobs of a group go to the same server as long as it works, because they share a prompt. */
  group: number;
  /** `attempt` counts from 0. */
  run(url: string, attempt: number, signal: AbortSignal): Promise<T>;
}

interface Server {
  readonly url: string;
  /** Consecutive failures. */
  failures: number;
  /** When it may be tried again. */
  retryAt: number;
  lastFailure: Error | undefined;
  /** Whether a job is trying a server that has failed. */
  isTried: boolean;
}

interface Waiting<T> {
  job: Job<T>;
  index: number;
  attempt: number;
}

export class ServerPool {
  private readonly servers: Server[];

  constructor(private readonly settings: ServerSettings) {
    const working = { failures: 0, retryAt: 0, lastFailure: undefined, isTried: false };
    this.servers = settings.urls.map((url) => ({ url, ...working }));
  }

  /**
   * The results of jobs, in order. Finished jobs are not repeated if their server fails later. Throws the signal's reason; any error
   * of a job other than a fault; and an Error once a job has failed more than `retries` times, or all servers have.
   */
  async run<T>(
    jobs: readonly Job<T>[],
    { signal, onDone }: { signal?: AbortSignal; onDone?: (result: T, index: number) => void } = {},
  ): Promise<T[]> {
    signal?.throwIfAborted();
    for (const server of this.servers) {
      // Servers that were given up get another chance in each call.
      server.failures = Math.min(server.failures, this.settings.retries);
      server.isTried = false;
    }
    const call = new Call(jobs, this.servers, this.settings, onDone);
    const abort = () => call.stop(signal!.reason);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await call.finish();
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }
}

class Change {
  happen!: () => void;
  readonly happened = new Promise<void>((resolve) => {
    this.happen = resolve;
  });
}

class Call<T> {
  private readonly results: T[] = [];
  private readonly waiting = new Map<number, Waiting<T>[]>();
  private readonly serverOf = new Map<number, Server>();
  private readonly ending = new AbortController();
  private left: number;
  private failure: { error: unknown } | undefined;
  private change = new Change();

  constructor(
    jobs: readonly Job<T>[],
    private readonly servers: readonly Server[],
    private readonly settings: ServerSettings,
    private readonly onDone: ((result: T, index: number) => void) | undefined,
  ) {
    this.left = jobs.length;
    for (const [index, job] of jobs.entries()) this.enqueue({ job, index, attempt: 0 });
  }

  async finish(): Promise<T[]> {
    // In turn, so that no server takes all groups.
    const workers = Array.from({ length: this.settings.concurrency }, () =>
      this.servers.map((server) => this.work(server)),
    );
    await Promise.all(workers.flat());
    if (this.failure) throw this.failure.error;
    return this.results;
  }

  stop(error: unknown): void {
    this.failure ??= { error };
    this.ending.abort(error);
    this.notify();
  }

  private get isOver(): boolean {
    return this.left === 0 || this.failure !== undefined;
  }

  private notify(): void {
    const { happen } = this.change;
    this.change = new Change();
    happen();
  }

  private enqueue(one: Waiting<T>): void {
    const { group } = one.job;
    const queue = this.waiting.get(group);
    if (queue) queue.push(one);
    else this.waiting.set(group, [one]);
  }

  private async work(server: Server): Promise<void> {
    // Yield first, so that workers of all servers start in turn.
    await null;
    while (!this.isOver && server.failures <= this.settings.retries) {
      const wait = server.retryAt - performance.now();
      if (server.failures > 0 && (server.isTried || wait > 0)) await this.pause(server.isTried ? Infinity : wait);
      else {
        const next = this.take(server);
        if (next) await this.attempt(server, next);
        else await this.pause(Infinity);
      }
    }
  }

  /** Waits until something changes, or for some milliseconds. */
  private async pause(milliseconds: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const elapsed = new Promise<void>((resolve) => {
      if (milliseconds !== Infinity) timer = setTimeout(resolve, milliseconds);
    });
    await Promise.race([this.change.happened, elapsed]);
    clearTimeout(timer);
  }

  /** The next job: from a group that the server has begun, else from an unclaimed group, else from the group with most waiting jobs. */
  private take(server: Server): Waiting<T> | undefined {
    const groups = [...this.waiting];
    const own = groups.find(([group]) => this.serverOf.get(group) === server);
    const free = own ?? groups.find(([group]) => !this.serverOf.has(group));
    const found = free ?? groups.reduce((a, b) => (a && a[1].length >= b[1].length ? a : b), groups[0]);
    if (!found) return undefined;
    const [group, queue] = found;
    if (free) this.serverOf.set(group, server);
    const next = queue.shift()!;
    if (queue.length === 0) this.waiting.delete(group);
    return next;
  }

  private async attempt(server: Server, next: Waiting<T>): Promise<void> {
    const { job, index, attempt } = next;
    server.isTried = server.failures > 0;
    const isTrial = server.isTried;
    try {
      const result = await job.run(server.url, attempt, this.ending.signal);
      if (this.failure) return;
      server.failures = 0;
      this.results[index] = result;
      this.left--;
      this.onDone?.(result, index);
    } catch (error) {
      if (this.failure) return;
      if (error instanceof ServerFault) this.fail(server, error);
      else if (!(error instanceof AnswerFault)) return this.stop(error);
      if (attempt >= this.settings.retries)
        return this.stop(failed(`a request has failed ${attempt + 1} times`, [error]));
      this.enqueue({ job, index, attempt: attempt + 1 });
      if (this.servers.every(({ failures }) => failures > this.settings.retries)) {
        const last = this.servers.map(({ lastFailure }) => lastFailure!);
        this.stop(failed('all servers have failed', last));
      }
    } finally {
      if (isTrial) server.isTried = false;
      this.notify();
    }
  }

  private fail(server: Server, error: Error): void {
    const { backOff } = this.settings;
    server.lastFailure = error;
    for (const [group, of] of this.serverOf) if (of === server) this.serverOf.delete(group);
    const now = performance.now();
    // Concurrent requests fail together: they count as one failure.
    if (server.failures > 0 && now < server.retryAt) return;
    server.failures++;
    server.retryAt = now + Math.min(longestBackOff, backOff * 2 ** (server.failures - 1));
  }
}

function failed(what: string, causes: readonly Error[]): Error {
  return new Error(`${what}: ${causes.map(({ message }) => message).join('; ')}`, { cause: causes[0] });
}
