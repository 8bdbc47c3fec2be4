// tfjs's current backend, where it is ours, for callers that need not load that backend.

import { engine } from '@tensorflow/tfjs-core';
import type { EngineBackend } from './engine/backend.js';

export function engineBackend(): EngineBackend | undefined {
  const { backendName } = engine();
  return backendName === 'groupgrad' ? (engine().backend as EngineBackend) : undefined;
}
