/** From generated protobuf descriptions to what the gRPC library takes, and from our errors to gRPC statuses. */
import { type DescService, fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import { type MethodDefinition, type ServiceDefinition, type ServiceError, status } from '@grpc/grpc-js';
import { ERROR_CODES, VeneerError } from '../errors.ts';

/** The methods of a service by their names in the .proto file; for servers and for clients. */
export function serviceDefinition(service: DescService): ServiceDefinition {
  const methods: Record<string, MethodDefinition<Message, Message>> = {};
  for (const { name, input, output, methodKind } of service.methods) {
    methods[name] = {
      path: `/${service.typeName}/${name}`,
      requestStream: methodKind === 'client_streaming' || methodKind === 'bidi_streaming',
      responseStream: methodKind === 'server_streaming' || methodKind === 'bidi_streaming',
      requestSerialize: (message) => Buffer.from(toBinary(input, message)),
      requestDeserialize: (bytes) => fromBinary(input, bytes),
      responseSerialize: (message) => Buffer.from(toBinary(output, message)),
      responseDeserialize: (bytes) => fromBinary(output, bytes),
    };
  }
  return methods;
}

/** What a client sees of an error: the status of its code, and its message with the hint. */
export function grpcError(error: unknown): Pick<ServiceError, 'code' | 'details'> {
  if (error instanceof VeneerError) {
    const details = error.hint === undefined ? error.message : `${error.message} (${error.hint})`;
    return { code: status[ERROR_CODES[error.code].grpc], details };
  }
  return { code: status.INTERNAL, details: error instanceof Error ? error.message : String(error) };
}
