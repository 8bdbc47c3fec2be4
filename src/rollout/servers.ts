// Several HTTP servers that do the same work: jobs are spread over them by group, repeated where a server fails, and given to
// the others when it stays away.

/** A server that did not do its work: no connection, a status such as 500, no answer in time. The job is repeated. */
export class ServerFault extends Error {
  override name = 'ServerFault';
}

/** An answer that is no use, of a server in working order. The job is repeated. */
export class AnswerFault extends Error {
  override name = 'AnswerFault';
}

export interface ServerSettings {
  urls: readonly string[];
  /** Jobs at the same time on each server. */
  concurrency: number;
  /** Failures in a row after which a job ends the run, and a server is left out until the next call. */
  retries: number;
  /** Milliseconds before a server is tried again. Doubles with each failure in a row, up to `longestBackOff`. */
  backOff: number;
}

/** In milliseconds. */
const longestBackOff = 30_000;

export interface Job<T> {
  /** Jobs of a group go to one server as long as it works, because they share a prompt. */
  group: number;
  /** `attempt` counts from 0. */
  run(url: string, attempt: number, signal: AbortSignal): Promise<T>;
}

interface Server {
  readonly url: string;
  /** In a row. */
  failures: number;
  /** When it may be tried again. */
  retryAt: number;
  lastFailure: Error | undefined;
  /** Whether a job tries a server that has failed. */
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
   * The results of jobs, in order. Jobs that were done stay done when their server fails. Throws the signal's reason; what a job
   * throws besides faults; an Error once a job has failed more than `retries` times, or every server has.
   */
  async run<T>(
    jobs: readonly Job<T>[],
    { signal, onDone }: { signal?: AbortSignal; onDone?: (result: T, index: number) => void } = {},
  ): Promise<T[]> {
    signal?.throwIfAborted();
    for (const server of this.servers) {
      // A server that was left out gets another chance.
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
    // Each worker starts in its own turn.
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

  /** Until something changes, or for some milliseconds. */
  private async pause(milliseconds: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const elapsed = new Promise<void>((resolve) => {
      if (milliseconds !== Infinity) timer = setTimeout(resolve, milliseconds);
    });
    await Promise.race([this.change.happened, elapsed]);
    clearTimeout(timer);
  }

  /** A job of a group that the server has begun, else of a group that nobody has, else of the group with most jobs waiting. */
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
        this.stop(failed('no server works any more', last));
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
    // Requests that were under way together fail together: they are one failure.
    if (server.failures > 0 && now < server.retryAt) return;
    server.failures++;
    server.retryAt = now + Math.min(longestBackOff, backOff * 2 ** (server.failures - 1));
  }
}

function failed(what: string, causes: readonly Error[]): Error {
  return new Error(`${what}: ${causes.map(({ message }) => message).join('; ')}`, { cause: causes[0] });
}
