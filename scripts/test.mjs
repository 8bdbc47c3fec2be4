// Runs the tests (node:test through tsx). Arguments narrow the files: `npm test -- golden anchor`. With
// --require-tensorflow, tests that need tfjs-node fail where they would skip themselves.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

const args = process.argv.slice(2);
const patterns = args.filter((arg) => !arg.startsWith('--'));
const required = args.includes('--require-tensorflow') ? { GROUPGRAD_REQUIRE_TENSORFLOW: '1' } : {};
const files = readdirSync('test', { recursive: true })
  .filter((file) => file.endsWith('.test.ts'))
  .map((file) => join('test', file))
  .filter((file) => patterns.length === 0 || patterns.some((pattern) => file.includes(pattern)))
  .sort();
if (files.length === 0) {
  console.error(`no test file matches ${patterns.join(', ')}`);
  process.exit(1);
}
const { status } = spawnSync(process.execPath, ['--import', 'tsx', '--test', ...files], {
  stdio: 'inherit',
  env: { ...process.env, ...required },
});
process.exit(status ?? 1);
