// A small pool of worker threads for what may take long. Threads, not processes: one that hangs or outgrows its memory is
// ended by itself, starts in tens of milliseconds and costs no second copy of the program. Nothing starts before the first
// job, and idle threads keep no process alive.

import { availableParallelism } from 'node:os';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { moduleFile } from '../base/package-folder.js';
import type { Judgement, Pair } from './judge.js';

/** What a worker is asked. */
export type Job =
  | ({ kind: 'maths' } & Pair)
  | { kind: 'regex'; source: string; flags: string; text: string }
  | { kind: 'json'; schema: string; text: string };

interface Waiting {
  job: Job;
  timeLimit: number;
  settle: (judgement: Judgement) => void;
  fail: (error: Error) => void;
  /** After a batch that came to nothing. */
  alone: boolean;
}

/** Jobs sent at once, so that messages do not cost more than verdicts. */
const batchSize = 32;
const threads = Math.min(2, availableParallelism());
/** Starts in a row that may fail before jobs do. */
const maxFailures = 3;

const waiting: Waiting[] = [];
const members: Member[] = [];
let failures = 0;

/** The worker's judgement; a refusal where it hangs or needs too much memory. Error if no worker can be started. */
export function ask(job: Job, timeLimit: number): Promise<Judgement> {
  return new Promise((settle, fail) => {
    // A pattern of the caller's may hang: nothing else waits behind it.
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
  // Both threads get some of what waits.
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
      // Whatever the program was started with is not for its graders.
      argv: [],
      stdin: false,
    });
    this.worker.on('message', (answers: Judgement[] | 'ready') =>
      answers === 'ready' ? this.ready() : this.answered(answers),
    );
    this.worker.on('error', (error: Error & { code?: string }) => {
      this.lost(error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? 'the memory limit has been reached' : undefined, error);
    });
    this.worker.on('exit', () => this.lost(undefined, new Error('a grader ended by itself')));
  }

  get isFree(): boolean {
    return this.isReady && this.batch.length === 0;
  }

  take(batch: Waiting[]): void {
    this.batch = batch;
    this.worker.ref();
    const limit = batch.reduce((sum, { timeLimit }) => Math.max(sum, timeLimit), 0);
    this.timer = setTimeout(() => this.lost(`no verdict within ${limit} ms`), limit);
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

  /** Ended, or to be ended: the jobs of a batch are tried again one by one, one alone is refused. */
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
