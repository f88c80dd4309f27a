// Package evidence reads access logs of other departments so that nothing is
// believed that was not checked, and writes and verifies evidence folders: access
// records that anyone can check offline with the consortium's trust file alone.
//
// # Folder
//
//	manifest.json                     a [Manifest] in canonical form
//	trace.csv                         the records that the manifest's filter selects
//	logs/DEPARTMENT/anchor.zlproof    zhenglian-proof/1: the departments' signed read of an anchor
//	logs/DEPARTMENT/entries           the log's entries from → to, each after its length in two bytes,
//	                                  high byte first (C2SP tlog-tiles has bundles of this form)
//
// # What it proves
//
// Enough departments signed that the ledger holds the anchor: a size and a root
// of the log. The entries, with the hashes of the subtrees before and after them
// that the manifest holds, give that root. So each entry stands in the log at its
// index, and between the first and the last of the range none is missing, added
// or changed. trace.csv is made anew from the entries and must be equal: it has
// every record of the ranges that the filter selects, and no other.
//
// It does not prove that a department logged everything it did; see
// reconciliation in package trail. Nor does it say anything of entries outside
// the ranges or after the anchors.
package evidence
