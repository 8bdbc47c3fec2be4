// TensorFlow inside TensorFlow.js (tfjs-node or tfjs-node-gpu) for tests, with the reason to skip tests that need it if
// it is not installed. GROUPGRAD_REQUIRE_TENSORFLOW=1 (`npm run test:tensorflow`) makes that an error.

import { startBackend } from '../../src/backend/backend.js';

async function probe(): Promise<string | false> {
  try {
    await startBackend('tensorflow');
    return false;
  } catch (error) {
    if (process.env.GROUPGRAD_REQUIRE_TENSORFLOW) throw error;
    const reasons = (error as Error).message.split('\n').slice(1, -1);
    return `no TensorFlow (npm run setup:tensorflow): ${reasons.map((reason) => reason.trim()).join('; ')}`;
  }
}

/** For node:test: why TensorFlow is not available, or false. In that case the backend `tensorflow` is loaded and current. */
export const noTensorflow = await probe();
