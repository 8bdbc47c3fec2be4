// Prints by how many bytes a process's peak memory grows when it loads a model with an adapter:
// `peak-of-load.ts <folder> <dtype>`.

import { ensureBackend } from '../../src/backend/backend.js';
import { loadPretrainedPolicy } from '../../src/weights/pretrained-policy.js';

const [folder, dtype] = process.argv.slice(2);
await ensureBackend('groupgrad');
const before = process.memoryUsage.rss();
await loadPretrainedPolicy(folder, { lora: { rank: 1 }, dtype: dtype as 'bfloat16' | 'float32' });
console.log(1024 * process.resourceUsage().maxRSS - before);
