// Prints by how many bytes a process's peak memory grows when it loads a model with an adapter:
// `peak-of-load.ts <folder> <dtype>`.

import { existsSync, readFileSync } from 'node:fs';
import { ensureBackend } from '../../src/backend/backend.js';
import { loadPretrainedPolicy } from '../../src/weights/pretrained-policy.js';

const [folder, dtype] = process.argv.slice(2);
await ensureBackend('groupgrad');
const before = process.memoryUsage.rss();
await loadPretrainedPolicy(folder, { lora: { rank: 1 }, dtype: dtype as 'bfloat16' | 'float32' });
console.log(peak() - before);

/** Bytes. Linux counts the memory of whoever started a process to its `maxRSS`, but not to what /proc tells. */
function peak(): number {
  const status = existsSync('/proc/self/status') ? readFileSync('/proc/self/status', 'utf8') : '';
  const [, told] = /^VmHWM:\s*(\d+) kB$/m.exec(status) ?? [];
  return 1024 * (told === undefined ? process.resourceUsage().maxRSS : Number(told));
}
