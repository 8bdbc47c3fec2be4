// Prints by how many bytes a process's peak memory grows when it loads a model with an adapter:
// `peak-of-load.ts <folder> <dtype>`.

import { ensureBackend } from '../../src/backend/backend.js';
import { loadPretrainedPolicy } from '../../src/weights/pretrained-policy.js';
import { growthOfPeak } from './peak-memory.js';

const [folder, dtype] = process.argv.slice(2);
await ensureBackend('groupgrad');
const load = () => loadPretrainedPolicy(folder, { lora: { rank: 1 }, dtype: dtype as 'bfloat16' | 'float32' });
console.log(await growthOfPeak(load));
