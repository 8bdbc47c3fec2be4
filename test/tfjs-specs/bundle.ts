// Bundles tfjs-core's specs with a backend.

import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));

/** `specs`: modules of tfjs-core, without the package's name. */
export async function bundleSpecs(outfile: string, specs: readonly string[]): Promise<void> {
  const imports = ['./environment.mjs', ...specs.map((spec) => `@tensorflow/tfjs-core/dist/${spec}`)];
  await build({
    stdin: { contents: imports.map((path) => `import '${path}';`).join('\n'), resolveDir: here },
    outfile,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    mainFields: ['module', 'main'],
    // tfjs-core marks modules that register kernels and gradients as free of side effects.
    ignoreAnnotations: true,
    // The location from which src/devices/load.ts looks for the addon.
    define: { 'import.meta.url': JSON.stringify(pathToFileURL(join(here, '../../src/devices/load.ts')).href) },
    logLevel: 'error',
  });
}
