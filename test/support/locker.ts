// Locks a folder on request: `locker.ts <folder> <start>`. Prints "ready", waits for the file `start`, and prints
// "answer: locked", after which it keeps the lock for a minute, or "answer: " and the error.

import { existsSync } from 'node:fs';
import { lockRun } from '../../src/run/run-lock.js';

const [folder, start] = process.argv.slice(2);
process.stdout.write('ready\n');
// Busy waiting, so that several processes begin at the same moment.
while (!existsSync(start));
try {
  lockRun(folder);
  process.stdout.write('answer: locked\n');
  setTimeout(() => process.exit(0), 60_000);
} catch (error) {
  process.stdout.write(`answer: ${(error as Error).message}\n`);
}
