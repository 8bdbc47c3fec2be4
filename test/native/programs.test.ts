// Builds and runs the C++ programs of this folder: the slow set. The first build takes about a minute and a half, a later one
// seconds. test/fuzz sends random requests to the built addon in every run.

import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { buildProgram, cannotBuild, outputOf, run } from '../support/native.js';
import { slowSet } from '../support/sets.js';

const noBuild = (sanitizers?: string) => slowSet('compiles native code') || cannotBuild(sanitizers);

function succeeds(t: TestContext, program: string, args: readonly string[] = []): void {
  const result = run(program, args);
  assert.equal(result.status, 0, outputOf(result));
  t.diagnostic(result.stdout.trim());
}

test('exp: within 1 ulp of the correctly rounded result, in every instruction set', { skip: noBuild() }, (t) => {
  succeeds(t, buildProgram('exp'));
});

const memory = 'address,undefined';
test('fuzz: no request makes the CPU device wrong, read or write outside its arrays', {
  skip: noBuild(memory),
}, (t) => {
  succeeds(t, buildProgram('fuzz', { sanitizers: memory }), ['600']);
});

test('fuzz: the threads of the CPU device have no data races', { skip: noBuild('thread') }, (t) => {
  succeeds(t, buildProgram('fuzz', { sanitizers: 'thread' }), ['12', '1', '0.5']);
});

test('engine_fuzz: no request makes the engine read or write outside its arrays, in any instruction set', {
  skip: noBuild(memory),
}, (t) => {
  succeeds(t, buildProgram('engine_fuzz', { sanitizers: memory }), ['1500']);
});

test('engine_fuzz: the threads of the engine have no data races', { skip: noBuild('thread') }, (t) => {
  succeeds(t, buildProgram('engine_fuzz', { sanitizers: 'thread' }), ['150']);
});
