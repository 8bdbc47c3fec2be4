// Distributes jobs over several equivalent HTTP servers, by group. A job is repeated if a server fails, and moves to another
// server if that one does not recover.

import { setMaxListeners } from 'node:events';

/** A server that did not do its work: no connection, a status such as 500, no answer in time. The job is repeated. */
export class ServerFault extends Error {
  override name = 'ServerFault';
}

/** An unusable response from a working server. The job is repeated. */
export class AnswerFault extends Error {
  override name = 'AnswerFault';
}

export interface ServerSettings {
  urls: readonly string[];
  /** Jobs at the same time on each server, of all calls together. */
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
  /** Jobs that it works on. */
  active: number;
  /** Consecutive ones. */
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

/** Calls may overlap: jobs of the one that began first go first. */
export class ServerPool {
  private readonly servers: Server[];
  /** Under way, in the order in which they began. */
  private readonly calls = new Set<Call<unknown>>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly settings: ServerSettings) {
    const working = { active: 0, failures: 0, retryAt: 0, lastFailure: undefined, isTried: false };
    this.servers = settings.urls.map((url) => ({ url, ...working }));
  }

  /**
   * The results of jobs, in order. Jobs that were done stay done when their server fails. Throws, once no job of the call is at
   * work any more: the signal's reason; what a job throws besides faults; an Error once a job has failed more than `retries`
   * times, or every server has.
   */
  async run<T>(
    jobs: readonly Job<T>[],
    { signal, onDone }: { signal?: AbortSignal; onDone?: (result: T, index: number) => void } = {},
  ): Promise<T[]> {
    signal?.throwIfAborted();
    if (jobs.length === 0) return [];
    // A server that was left out gets another chance.
    for (const server of this.servers) server.failures = Math.min(server.failures, this.settings.retries);
    const call = new Call(jobs, onDone);
    const abort = () => call.stop(signal!.reason);
    signal?.addEventListener('abort', abort, { once: true });
    this.calls.add(call as Call<unknown>);
    this.assign();
    try {
      return await call.ended;
    } finally {
      signal?.removeEventListener('abort', abort);
      this.calls.delete(call as Call<unknown>);
      if (this.calls.size === 0) clearTimeout(this.timer);
    }
  }

  /** Gives jobs to servers that may take one, in turn, so that no server takes all groups. */
  private assign(): void {
    const now = performance.now();
    for (let isDone = false; !isDone; ) {
      isDone = true;
      for (const server of this.servers) {
        const next = this.isFree(server, now) ? this.take(server) : undefined;
        if (!next) continue;
        isDone = false;
        void this.attempt(server, next.call, next.waiting);
      }
    }
    clearTimeout(this.timer);
    const pauses = this.servers.filter((server) => this.isPaused(server, now)).map(({ retryAt }) => retryAt - now);
    if (pauses.length === 0 || ![...this.calls].some((call) => call.hasWaiting)) return;
    this.timer = setTimeout(() => this.assign(), Math.ceil(Math.min(...pauses)));
  }

  private isLeftOut({ failures }: Server): boolean {
    return failures > this.settings.retries;
  }

  /** Whether a server that has failed is to be tried later. */
  private isPaused(server: Server, now: number): boolean {
    return server.failures > 0 && !this.isLeftOut(server) && !server.isTried && server.retryAt > now;
  }

  private isFree(server: Server, now: number): boolean {
    if (server.active >= this.settings.concurrency || this.isLeftOut(server)) return false;
    return server.failures === 0 || !(server.isTried || this.isPaused(server, now));
  }

  private take(server: Server): { call: Call<unknown>; waiting: Waiting<unknown> } | undefined {
    for (const call of this.calls) {
      const waiting = call.take(server);
      if (waiting) return { call, waiting };
    }
    return undefined;
  }

  private async attempt(server: Server, call: Call<unknown>, waiting: Waiting<unknown>): Promise<void> {
    const isTrial = server.failures > 0;
    if (isTrial) server.isTried = true;
    server.active++;
    try {
      const result = await call.run(server, waiting);
      server.failures = 0;
      call.finish(waiting, result);
    } catch (error) {
      this.failed(server, call, waiting, error);
    } finally {
      server.active--;
      if (isTrial) server.isTried = false;
      call.leave();
      this.assign();
    }
  }

  private failed(server: Server, call: Call<unknown>, waiting: Waiting<unknown>, error: unknown): void {
    // The end of a call fails its requests; the server is not at fault.
    if (call.isOver) return;
    if (!(error instanceof ServerFault || error instanceof AnswerFault)) {
      call.stop(error);
      return;
    }
    if (error instanceof ServerFault) this.fail(server, error);
    const attempts = waiting.attempt + 1;
    if (attempts <= this.settings.retries) call.enqueue({ ...waiting, attempt: attempts });
    else call.stop(failed(`a request has failed ${attempts} times`, [error]));
    if (this.servers.every((one) => this.isLeftOut(one))) {
      const last = this.servers.map(({ lastFailure }) => lastFailure!);
      for (const one of this.calls) one.stop(failed('no server works any more', last));
    }
  }

  private fail(server: Server, error: Error): void {
    const { backOff } = this.settings;
    server.lastFailure = error;
    for (const call of this.calls) call.release(server);
    const now = performance.now();
    // Requests that were under way together fail together: they are one failure.
    if (server.failures > 0 && now < server.retryAt) return;
    server.failures++;
    server.retryAt = now + Math.min(longestBackOff, backOff * 2 ** (server.failures - 1));
  }
}

/** The jobs of one call. */
class Call<T> {
  private readonly results: T[] = [];
  private readonly waiting = new Map<number, Waiting<T>[]>();
  private readonly serverOf = new Map<number, Server>();
  private readonly ending = new AbortController();
  private left: number;
  /** Jobs at work. */
  private active = 0;
  private failure: { error: unknown } | undefined;
  private settle!: () => void;
  /** Settles once the call is over and none of its jobs is at work. */
  readonly ended: Promise<T[]>;

  constructor(
    jobs: readonly Job<T>[],
    private readonly onDone: ((result: T, index: number) => void) | undefined,
  ) {
    this.left = jobs.length;
    // One listener a job at work.
    setMaxListeners(0, this.ending.signal);
    for (const [index, job] of jobs.entries()) this.enqueue({ job, index, attempt: 0 });
    const settled = new Promise<void>((resolve) => {
      this.settle = resolve;
    });
    this.ended = settled.then(() => {
      if (this.failure) throw this.failure.error;
      return this.results;
    });
  }

  get isOver(): boolean {
    return this.left === 0 || this.failure !== undefined;
  }

  get hasWaiting(): boolean {
    return this.waiting.size > 0;
  }

  enqueue(one: Waiting<T>): void {
    const { group } = one.job;
    const queue = this.waiting.get(group);
    if (queue) queue.push(one);
    else this.waiting.set(group, [one]);
  }

  /** A job of a group that the server has begun, else of a group that no server has begun, else of the group with most jobs waiting. */
  take(server: Server): Waiting<T> | undefined {
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

  /** Its groups may go to other servers. */
  release(server: Server): void {
    for (const [group, of] of this.serverOf) if (of === server) this.serverOf.delete(group);
  }

  run({ url }: Server, { job, attempt }: Waiting<T>): Promise<T> {
    this.active++;
    return job.run(url, attempt, this.ending.signal);
  }

  finish({ index }: Waiting<T>, result: T): void {
    if (this.failure) return;
    this.results[index] = result;
    this.onDone?.(result, index);
    this.left--;
  }

  stop(error: unknown): void {
    if (this.isOver) return;
    this.failure = { error };
    this.waiting.clear();
    this.ending.abort(error);
    this.settleIfDone();
  }

  /** A job is no longer at work. */
  leave(): void {
    this.active--;
    this.settleIfDone();
  }

  private settleIfDone(): void {
    if (this.isOver && this.active === 0) this.settle();
  }
}

function failed(what: string, causes: readonly Error[]): Error {
  return new Error(`${what}: ${causes.map(({ message }) => message).join('; ')}`, { cause: causes[0] });
}
