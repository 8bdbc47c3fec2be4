// Builds native/tensorflow/log_level.cpp, which makes TensorFlow 2.21 obey TF_CPP_MIN_LOG_LEVEL from its first line on. Linux only,
// like the TensorFlow of a wheel.

import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const source = join(dirname(fileURLToPath(import.meta.url)), '..', 'native', 'tensorflow', 'log_level.cpp');
const name = 'groupgrad_log_level';

/** Linker flags that link a binding to the library, although it calls none of its functions; the library's folder goes to `-L`. */
export const linkFlags = ['-Wl,--push-state,--no-as-needed', `-l${name}`, '-Wl,--pop-state'];

/** The command that compiles the library into `folder`, with node-gyp's compiler: CXX (which may contain flags) or g++. */
export function compileCommand(folder) {
  const file = `lib${name}.so`;
  const [compiler, ...flags] = (process.env.CXX?.trim() || 'g++').split(/\s+/);
  const options = ['-std=c++20', '-O2', '-shared', '-fPIC', '-Wl,-z,initfirst', `-Wl,-soname,${file}`];
  return [compiler, ...flags, ...options, source, '-o', join(folder, file)];
}
