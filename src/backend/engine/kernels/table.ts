// The native kernels of the backend by their names in tfjs, and those that tfjs does not have.

import type { EngineAddon } from '../../../devices/load.js';
import { elementwiseKernels } from './elementwise.js';
import { gatherKernels } from './gather.js';
import type { Kernels } from './kernel.js';
import { layoutKernels } from './layout.js';
import { linearKernels } from './linear.js';
import { matMulKernels } from './matmul.js';
import { reduceKernels } from './reduce.js';
import { transformerKernels } from './transformer.js';

/** For an engine: the CPU's, or that of another device with the same operations. */
export function nativeKernels(engine: EngineAddon): Kernels {
  return {
    ...elementwiseKernels(engine),
    ...layoutKernels,
    ...reduceKernels(engine),
    ...gatherKernels,
    ...matMulKernels(engine),
    ...linearKernels,
    ...transformerKernels,
  };
}
