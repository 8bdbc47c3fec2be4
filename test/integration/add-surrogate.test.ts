// Adding a surrogate changes only the files that CONTRIBUTING names: one is added to a copy of the sources, which then
// compile and whose tests of every surrogate find it.

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { cannotBuild, outputOf, root, run, withFolder } from '../support/native.js';
import { slowSet } from '../support/sets.js';

const skip = slowSet('compiles the addon') || cannotBuild();

/** −w tanh((ρ − 1) / w) A: depends only on the ratio, like most. */
const changes: Record<string, [before: string, after: string][]> = {
  'native/core/surrogate.hpp': [
    [
      'using Surrogates = std::tuple<',
      `struct Soft : SurrogateBase {
  static constexpr std::string_view name = "soft";
  float width;
  GROUPGRAD_INLINE explicit Soft(const double* p) : width(float(p[0])) {}

  GROUPGRAD_INLINE Term term(const TokenState& s) const {
    // tanh(x) = 1 - 2 / (exp(2x) + 1)
    const float tail = 1 / (expOf(2 * (s.ratio - 1) / width) + 1);
    const float slope = 4 * tail * (1 - tail) * s.ratio;
    return {-width * (1 - 2 * tail) * s.advantage, -slope * s.advantage, 0, 0};
  }
};

using Surrogates = std::tuple<`,
    ],
    ['Reinforce>;', 'Reinforce, Soft>;'],
  ],
  'native/c/groupgrad.h': [['  GROUPGRAD_SURROGATE_COUNT', '  GROUPGRAD_SOFT,\n  GROUPGRAD_SURROGATE_COUNT']],
  'src/devices/reference/surrogate.ts': [
    ['  reinforce: eachToken(reinforce),', '  reinforce: eachToken(reinforce),\n  soft: eachToken(soft),'],
    [
      '/** −A ℓ: REINFORCE',
      `function soft(ratio: number, advantage: number, _logProb: number, [width]: Float64Array): TokenTerms {
  const value = Math.tanh((ratio - 1) / width);
  return { value: -width * value * advantage, byLogRatio: -(1 - value ** 2) * ratio * advantage, byLogProb: 0 };
}

/** −A ℓ: REINFORCE`,
    ],
  ],
  'src/loss/config.ts': [
    [
      '  reinforce: {},',
      "  reinforce: {},\n  soft: { width: { above: 0, default: 1, doc: 'Ratios further from 1 have a smaller gradient.' } },",
    ],
  ],
  'src/loss/presets.ts': [
    [
      '} as const satisfies Record<string, LossConfig>;',
      `  soft: { ratio: 'token', surrogate: { kind: 'soft' }, aggregation: 'token-mean' },
} as const satisfies Record<string, LossConfig>;`,
    ],
  ],
};

test('CONTRIBUTING names the files that a new surrogate changes', () => {
  const guide = readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8');
  const section = /^## Adding a surrogate\n(.*?)^## /ms.exec(guide)?.[1];
  assert.ok(section, 'there is no section "Adding a surrogate"');
  const code = /^The code:\n(.*?)^\n*(?=The rest:)/ms.exec(section)?.[1];
  assert.ok(code, 'the section has no list "The code:"');
  const named = [...code.matchAll(/`((?:native|src)\/[\w/.-]+)`/g)].map(([, file]) => file);
  assert.deepEqual(named.sort(), Object.keys(changes).sort());
});

test('with only those changes it compiles, and every test of surrogates includes it', { skip }, (t) => {
  withFolder((folder) => {
    for (const name of ['native', 'src', 'test', 'CMakeLists.txt', 'package.json', 'scripts']) {
      cpSync(join(root, name), join(folder, name), { recursive: true });
    }
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    for (const [file, edits] of Object.entries(changes)) {
      let text = readFileSync(join(folder, file), 'utf8');
      for (const [before, after] of edits) {
        assert.equal(text.split(before).length, 2, `${file} holds "${before}" once`);
        text = text.replace(before, () => after);
      }
      writeFileSync(join(folder, file), text);
    }
    // Tests within a test report to it, unless it hides. Those of the quick set take every surrogate.
    const { NODE_TEST_CONTEXT: _, GROUPGRAD_SLOW_TESTS: __, ...env } = process.env;
    const succeeds = (command: string, args: string[]) => {
      const result = run(command, args, { cwd: folder, env });
      assert.equal(result.status, 0, outputOf(result));
      return result.stdout;
    };
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({
        ...(JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8')) as object),
        include: ['src'],
      }),
    );
    succeeds(process.execPath, [join('node_modules', 'typescript', 'bin', 'tsc'), '--noEmit']);
    const build = join(folder, 'build', 'Release');
    mkdirSync(build, { recursive: true });
    succeeds('cmake', ['-S', '.', '-B', build, '-DGROUPGRAD_CUDA=OFF', '-DCMAKE_BUILD_TYPE=Release']);
    succeeds('cmake', ['--build', build, '--parallel', '2', '--target', 'groupgrad']);
    const loader = ['--import', './scripts/typescript.mjs'];
    const tested = ['finite-difference', 'devices-agree'];
    const summary = succeeds(process.execPath, [...loader, 'scripts/test.mjs', ...tested]);
    assert.match(summary, /soft/);
    t.diagnostic(/^ℹ pass \d+$/m.exec(summary)![0]);
  });
});
