// TensorFlow.js is an optional peer: where it is missing, the error says what to type in place of where Node has looked.

import { addCommand } from './package-manager.js';

/** What trains everywhere: WebAssembly, without a download outside of the package manager's. */
export const tfjsPackages = ['@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-wasm'] as const;

/**
 * Loads what imports @tensorflow/tfjs-core.
 * @param needer what the user has asked for, as the subject of the message.
 * @throws Error that says what to install, where the package is missing; any other error as it is.
 */
export async function withTfjs<T>(needer: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    if (!isMissing(error, tfjsPackages[0])) throw error;
    const message = `${needer} needs TensorFlow.js, which is not installed: ${addCommand(tfjsPackages)}`;
    throw new Error(message, { cause: error });
  }
}

/** Whether an import has failed because this package is not installed. */
export function isMissing(error: unknown, name: string): boolean {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === 'ERR_MODULE_NOT_FOUND' && message.includes(`'${name}'`);
}
