// What tfjs's specs run on: the CPU backend, or ours over it. Their first import, so that it is known before they are
// declared. Part of a bundle in which tfjs-core's package is its modules, as the specs import them.

import '@tensorflow/tfjs-core/dist/register_all_gradients';
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops';
import '@tensorflow/tfjs-backend-cpu';
import { setTestEnvs } from '@tensorflow/tfjs-core/dist/jasmine_util';
import { registerEngineBackend } from '../../src/backend/engine/register.ts';

const backend = process.env.GROUPGRAD_SPECS_BACKEND;
if (backend !== 'cpu') registerEngineBackend();
setTestEnvs([{ name: backend, backendName: backend, isDataSync: true }]);
