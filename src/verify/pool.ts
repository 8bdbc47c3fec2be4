// A small pool of worker threads for slow verdicts. Threads, not processes: one that hangs or exceeds its memory can be
// terminated by itself, starts in tens of milliseconds and needs no second copy of the program. Nothing starts before the first
// job, and idle threads do not keep the process alive.

import { availableParallelism } from 'node:os';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { moduleFile } from '../base/package-folder.js';
import type { Judgement, Pair } from './judge.js';

/** A request to a worker. */
export type Job =
  | ({ kind: 'maths' } & Pair)
  | { kind: 'regex'; source: string; flags: string; text: string }
  | { kind: 'json'; schema: string; text: string };

interface Waiting {
  job: Job;
  timeLimit: number;
  settle: (judgement: Judgement) => void;
  fail: (error: Error) => void;
  /** Set after a batch that failed. */
  alone: boolean;
}

/** Jobs per message, so that messages do not cost more than verdicts. */
const batchSize = 32;
const threads = Math.min(2, availableParallelism());
/** Consecutive failed starts after which jobs fail. */
const maxFailures = 3;

const waiting: Waiting[] = [];
const members: Member[] = [];
let failures = 0;

/** The worker's judgement; a rejection if it hangs or needs too much memory. Error if no worker can be started. */
export function ask(job: Job, timeLimit: number): Promise<Judgement> {
  return new Promise((settle, fail) => {
    // A caller's pattern may hang, so it is sent alone.
    waiting.push({ job, timeLimit, settle, fail, alone: job.kind !== 'maths' });
    if (waiting.length === 1) queueMicrotask(dispatch);
  });
}

function dispatch(): void {
  for (const member of members) if (waiting.length > 0 && member.isFree) member.take(nextBatch());
  while (members.length < threads && waiting.length > members.filter((member) => !member.isReady).length * batchSize) {
    members.push(new Member());
  }
}

function nextBatch(): Waiting[] {
  if (waiting[0].alone) return waiting.splice(0, 1);
  // Both threads get a share of the queue.
  const most = Math.min(batchSize, Math.ceil(waiting.length / threads));
  const end = waiting.findIndex(({ alone }, i) => alone || i >= most);
  return waiting.splice(0, end < 0 ? waiting.length : end);
}

class Member {
  isReady = false;
  private batch: Waiting[] = [];
  private timer: NodeJS.Timeout | undefined;
  private readonly worker: Worker;

  constructor() {
    const program = pathToFileURL(moduleFile('verify/worker'));
    // Tests run the sources through tsx, whose loader threads do not inherit.
    const isSource = program.pathname.endsWith('.ts');
    const loadSource = `import('tsx/esm/api').then(({ register }) => { register(); return import(${JSON.stringify(program.href)}); })`;
    this.worker = new Worker(isSource ? loadSource : program, {
      eval: isSource,
      resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 16, stackSizeMb: 4 },
      // Options that the program was started with must not affect its graders.
      argv: [],
      stdin: false,
    });
    this.worker.on('message', (answers: Judgement[] | 'ready') =>
      answers === 'ready' ? this.ready() : this.answered(answers),
    );
    this.worker.on('error', (error: Error & { code?: string }) => {
      this.lost(error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? 'the memory limit has been reached' : undefined, error);
    });
    this.worker.on('exit', () => this.lost(undefined, new Error('a grader exited unexpectedly')));
  }

  get isFree(): boolean {
    return this.isReady && this.batch.length === 0;
  }

  take(batch: Waiting[]): void {
    this.batch = batch;
    this.worker.ref();
    const limit = batch.reduce((sum, { timeLimit }) => Math.max(sum, timeLimit), 0);
    const lose = () => {
      if (this.batch === batch) this.lost(`no verdict within ${limit} ms`);
    };
    // If this thread was blocked, for example by a sampler, timers run before messages: an answer that has arrived counts.
    this.timer = setTimeout(() => setImmediate(lose), limit);
    this.worker.postMessage(batch.map(({ job }) => job));
  }

  private ready(): void {
    this.isReady = true;
    failures = 0;
    this.worker.unref();
    dispatch();
  }

  private answered(answers: Judgement[]): void {
    clearTimeout(this.timer);
    const { batch } = this;
    this.batch = [];
    if (waiting.length > 0) this.take(nextBatch());
    else this.worker.unref();
    for (const [i, { settle }] of batch.entries()) settle(answers[i]);
  }

  /** After a termination: the jobs of a batch are retried one by one; a single job is rejected. */
  private lost(reason: string | undefined, error?: Error): void {
    const at = members.indexOf(this);
    if (at < 0) return;
    members.splice(at, 1);
    clearTimeout(this.timer);
    void this.worker.terminate();
    const { batch } = this;
    this.batch = [];
    if (!this.isReady && ++failures >= maxFailures) {
      failures = 0;
      const cause = error ?? new Error(reason);
      for (const { fail } of waiting.splice(0))
        fail(new Error(`no grader can be started: ${cause.message}`, { cause }));
      return;
    }
    if (batch.length === 1 && batch[0].alone)
      batch[0].settle({ correct: false, reason: reason ?? `refused: ${error?.message}` });
    else waiting.unshift(...batch.map((one) => ({ ...one, alone: true })));
    if (waiting.length > 0) dispatch();
  }
}
