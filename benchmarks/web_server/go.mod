module web_server

go 1.21
