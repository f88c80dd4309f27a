package main

type verifyCmd struct{}

func (*verifyCmd) Run(*env) error { return nil }
