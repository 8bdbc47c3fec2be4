// Preloaded into the process of a test file by `npm test -- --times`: at its end, writes the wall-clock and processor time of
// it and the processes that it waited for into the folder GROUPGRAD_TEST_TIMES.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMainThread } from 'node:worker_threads';

const [, file] = process.argv;
const folder = process.env.GROUPGRAD_TEST_TIMES;

/** Processor time in seconds of the children that have ended; 0 if /proc does not report it. */
function ofChildren() {
  try {
    const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1].split(' ');
    return (Number(fields[13]) + Number(fields[14])) / 100;
  } catch {
    return 0;
  }
}

if (folder && isMainThread && file?.endsWith('.test.ts')) {
  process.on('exit', () => {
    const { user, system } = process.cpuUsage();
    const processor = (user + system) / 1e6 + ofChildren();
    const times = { file, wall: performance.now() / 1e3, processor };
    writeFileSync(join(folder, `${process.pid}.json`), JSON.stringify(times));
  });
}
