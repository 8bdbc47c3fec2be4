// The processes that train one policy, in step with each other. Whatever they exchange says what it is and may be a failure
// instead, so that one that fails ends or repeats the step of all, and processes that do different things get an error, not a
// deadlock.

import { setTimeout as sleep } from 'node:timers/promises';
import { deserialize, serialize } from 'node:v8';
import { Interrupted } from '../base/interruption.js';
import { NumericFault } from '../base/numeric-fault.js';
import { alone, type Communicator } from './communicator.js';

/** What a process sends to the others. */
type Message = { what: string; value: unknown } | { failure: Failure };

interface Failure {
  kind: 'error' | 'interrupted' | 'fault';
  message: string;
}

/** Where several processes fail at once, all act on the first of these that there is. */
const kinds = ['error', 'interrupted', 'fault'] as const satisfies readonly Failure['kind'][];

/** Seconds between two exchanges of how far the work of all processes is. */
const statusEvery = 0.5;

export class Processes {
  /** Errors that all processes know of, within the outermost `agree`. */
  private readonly known = new WeakSet<Error>();
  /** How many calls of `agree` are within each other. */
  private depth = 0;

  constructor(private readonly communicator: Communicator = alone) {}

  get rank(): number {
    return this.communicator.rank;
  }

  get size(): number {
    return this.communicator.size;
  }

  /** Whether this process is the one that evaluates, logs and saves. */
  get isFirst(): boolean {
    return this.rank === 0;
  }

  /** The values that all processes give, by rank. `what` says what they are. Throws the error of a process that has failed. */
  async gather<T>(what: string, value: T): Promise<T[]> {
    if (this.size === 1) return [value];
    const messages = await this.exchange({ what, value });
    const other = messages.findIndex((message) => 'what' in message && message.what !== what);
    if (other >= 0) {
      const { what: its } = messages[other] as { what: string };
      // The other process gets the same message about this one.
      const apart = `process ${this.rank} is at '${what}' and process ${other} at '${its}'`;
      throw this.remember(new Error(`expected processes that make the same calls, but ${apart}`));
    }
    return messages.map((message) => (message as { value: T }).value);
  }

  /** What the first process computes; the others wait for it. */
  async fromFirst<T>(what: string, compute: () => Promise<T>): Promise<T> {
    const value = this.isFirst ? await compute() : undefined;
    return (await this.gather(what, value))[0] as T;
  }

  /**
   * What `work` gives or throws in this process, once the work of every process has ended. Until then, `report` is called every half
   * second with what `status` says in each process, by rank, and once at the end. Everything else that is exchanged has to wait for
   * it.
   */
  async whileAllWork<T, S>(work: Promise<T>, status: () => S, report: (all: S[]) => void): Promise<T> {
    if (this.size === 1) return work;
    let hasEnded = false;
    const ended = new AbortController();
    const settled = work
      .catch(() => {})
      .then(() => {
        hasEnded = true;
        ended.abort();
      });
    try {
      for (let isOver = false; !isOver; ) {
        await sleep(1e3 * statusEvery, undefined, { signal: ended.signal }).catch(() => {});
        const all = await this.gather('progress', { status: status(), hasEnded });
        report(all.map((each) => each.status));
        isOver = all.every((each) => each.hasEnded);
      }
    } finally {
      // Where another process has failed elsewhere, this one's work is not left running.
      await settled;
    }
    return work;
  }

  /** Replaces values by their sums over all processes. */
  async sum(values: Float32Array): Promise<void> {
    if (this.size > 1) await this.communicator.allReduceSum(values);
  }

  /** Replaces values by those of the first process. */
  async copyFirst(values: Float32Array): Promise<void> {
    if (this.size > 1) await this.communicator.broadcast(values, 0);
  }

  /**
   * The result of something that may fail in this process alone. Its error is sent to all, and the error thrown is the one that all
   * act on: the reason of `signal`, where that has aborted, is Interrupted for the others.
   */
  async agree<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.depth++;
    try {
      return await work();
    } catch (error) {
      const agreed = await this.announce(error as Error, signal?.aborted === true && error === signal.reason);
      // The same object may be thrown again another time, such as the reason of a signal.
      if (this.depth === 1) this.known.delete(agreed);
      throw agreed;
    } finally {
      this.depth--;
    }
  }

  /** From `first` on, `count` of `all` things in a row are this process's share. */
  share(all: number): { first: number; count: number } {
    const bound = (rank: number) => Math.floor((rank * all) / this.size);
    return { first: bound(this.rank), count: bound(this.rank + 1) - bound(this.rank) };
  }

  private async announce(error: Error, isAbort: boolean): Promise<Error> {
    if (this.size === 1 || this.known.has(error)) return error;
    const kind = isAbort ? 'interrupted' : kindOf(error);
    return this.exchange({ failure: { kind, message: String(error?.message ?? error) } }, error).then(
      () => error,
      (agreed: Error) => agreed,
    );
  }

  /** Throws where a process reports a failure; `own` is that of this one. */
  private async exchange(message: Message, own?: Error): Promise<Message[]> {
    const bytes = await this.communicator.allGather(serialize(message));
    const messages = bytes.map((each) => deserialize(each) as Message);
    for (const kind of kinds) {
      const rank = messages.findIndex((each) => 'failure' in each && each.failure.kind === kind);
      if (rank < 0) continue;
      const { message: text } = (messages[rank] as { failure: Failure }).failure;
      // Where all find the same fault, each throws its own error.
      throw this.remember(own?.message === text ? own : errorOf(kind, `process ${rank}: ${text}`));
    }
    return messages;
  }

  private remember(error: Error): Error {
    this.known.add(error);
    return error;
  }
}

function kindOf(error: Error): Failure['kind'] {
  if (error instanceof NumericFault) return 'fault';
  return error instanceof Interrupted ? 'interrupted' : 'error';
}

function errorOf(kind: Failure['kind'], message: string): Error {
  if (kind === 'fault') return new NumericFault(message);
  return kind === 'interrupted' ? new Interrupted(message) : new Error(message);
}
