// Locks a folder when it is told to: `locker.ts <folder> <start>`. Says "ready", waits for the file `start`, and says
// "answer: locked", after which it keeps the lock for a minute, or "answer: " and why not.

import { existsSync } from 'node:fs';
import { lockRun } from '../../src/run/run-lock.js';

const [folder, start] = process.argv.slice(2);
process.stdout.write('ready\n');
// Busy, so that several begin at the same moment.
while (!existsSync(start));
try {
  lockRun(folder);
  process.stdout.write('answer: locked\n');
  setTimeout(() => process.exit(0), 60_000);
} catch (error) {
  process.stdout.write(`answer: ${(error as Error).message}\n`);
}
