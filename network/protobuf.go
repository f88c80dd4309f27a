package network

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

// The messages of the protobuf generation that fabric-sdk-go links, for the present
// library.

func marshal(m protoadapt.MessageV1) ([]byte, error) { return proto.Marshal(protoadapt.MessageV2Of(m)) }

func unmarshal(data []byte, into protoadapt.MessageV1) error {
	return proto.Unmarshal(data, protoadapt.MessageV2Of(into))
}

func equal(a, b protoadapt.MessageV1) bool {
	return proto.Equal(protoadapt.MessageV2Of(a), protoadapt.MessageV2Of(b))
}

// clone copies a message deeply. Of a message that is no pointer of type T it answers
// nil.
func clone[T protoadapt.MessageV1](m T) T {
	copied, _ := protoadapt.MessageV1Of(proto.Clone(protoadapt.MessageV2Of(m))).(T)
	return copied
}
