// TensorFlow.js is an optional peer dependency: if it is missing, the error says what to install instead of where Node looked.

import { addCommand } from './package-manager.js';

/** The packages that work everywhere: WebAssembly, with no download outside the package manager. */
export const tfjsPackages = ['@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-wasm'] as const;

/**
 * Loads a module that imports @tensorflow/tfjs-core. @param needer what the user requested, as the subject of the message.
 * @throws Error that says what to install, if the package is missing; any other error unchanged.
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

/** Whether an import failed because this package is not installed. */
export function isMissing(error: unknown, name: string): boolean {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === 'ERR_MODULE_NOT_FOUND' && message.includes(`'${name}'`);
}
