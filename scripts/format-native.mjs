// Formats the C++ of native/, test/native/ and bench/gpu/ with clang-format; --check only reports. Does nothing if
// clang-format is missing.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

const files = ['native', 'test/native', 'bench/gpu'].flatMap((folder) =>
  readdirSync(folder, { recursive: true })
    .filter((file) => /\.(cpp|hpp|inl|cu|cuh|h)$/.test(file))
    .map((file) => join(folder, file)),
);
const mode = process.argv.includes('--check') ? ['--dry-run', '--Werror'] : ['-i'];
const { status, error } = spawnSync('clang-format', [...mode, ...files], { stdio: 'inherit' });
if (error) console.log('native layout: skipped, clang-format was not found');
process.exit(error ? 0 : (status ?? 1));
