// How much memory something takes at most, in a process that was started to measure that.

import { existsSync, readFileSync } from 'node:fs';

/**
 * By how many bytes the peak of this process's memory exceeds what it occupies before `work`. Too much, and never too little, if
 * it has occupied more before.
 */
export async function growthOfPeak(work: () => unknown): Promise<number> {
  const before = process.memoryUsage.rss();
  await work();
  return peak() - before;
}

/** Bytes. Linux counts the memory of whoever started a process to its `maxRSS`, but not to the status in /proc. */
function peak(): number {
  const status = existsSync('/proc/self/status') ? readFileSync('/proc/self/status', 'utf8') : '';
  const [, kilobytes] = /^VmHWM:\s*(\d+) kB$/m.exec(status) ?? [];
  return 1024 * Number(kilobytes ?? process.resourceUsage().maxRSS);
}
