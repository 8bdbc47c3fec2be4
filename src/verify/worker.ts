// The worker thread for slow verdicts.

import { parentPort } from 'node:worker_threads';
import { judgeJson } from './json-schema.js';
import { type Judgement, judgeFully } from './judge.js';
import type { Job } from './pool.js';

parentPort!.on('message', (jobs: Job[]) => parentPort!.postMessage(jobs.map(judge)));
parentPort!.postMessage('ready');

function judge(job: Job): Judgement {
  switch (job.kind) {
    case 'maths':
      return judgeFully(job);
    case 'regex': {
      const correct = new RegExp(job.source, job.flags).test(job.text);
      return { correct, reason: correct ? 'the pattern matches' : 'the pattern does not match' };
    }
    case 'json':
      return judgeJson(job.text, JSON.parse(job.schema));
  }
}
