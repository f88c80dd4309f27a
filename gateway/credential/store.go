package credential

import "context"

// Record is what the issuer keeps of a certificate that it issued. It holds
// personal data.
type Record struct {
	Ref        string // of the certificate
	Credential string // with every item disclosed
	CheckCode  string // 查验码, for printing the QR code again
	Sealed     string // bytes that [Seal] made of what the check code shows; "" when that is nothing
}

// Store keeps what a department issued. It is the only place where a gateway
// keeps personal data, and none of it may appear in an error or a log. A Store is
// safe for concurrent use.
type Store interface {
	// Put keeps records: all of them, or with an error none. When it returns nil
	// they outlast a power failure. A record kept already is kept once; another one
	// under the same reference is refused as [domain.Exists].
	Put(ctx context.Context, records ...Record) error

	// Get answers the record of a certificate, or [domain.NotFound].
	Get(ctx context.Context, ref string) (Record, error)

	// Delete forgets records: all of them, or with an error none. It overwrites
	// them in the files too. References that are not there are no error.
	Delete(ctx context.Context, refs ...string) error
}
