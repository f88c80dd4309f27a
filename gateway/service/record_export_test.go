package service

// SetMostUnindexed changes how many records may be logged and not indexed.
func (a *Access) SetMostUnindexed(n int) { a.mostUnindexed = n }
