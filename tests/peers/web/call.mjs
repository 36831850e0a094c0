// call.mjs URL: makes the calls of grpc_web.mjs through a gateway; prints what went wrong, and ends with 1 if anything did.

import * as grpc from 'grpc-web';
import xhr2 from 'xhr2';
import { grpcWeb } from './grpc_web.mjs';

globalThis.XMLHttpRequest = xhr2.XMLHttpRequest ?? xhr2;
const problems = await grpcWeb(grpc.default ?? grpc, process.argv[2]);
problems.forEach((problem) => console.log(problem));
process.exit(problems.length === 0 ? 0 : 1);
