"""What tests share: made inputs, small servers, the command run and read back."""
