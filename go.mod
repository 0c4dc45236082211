module bittern

go 1.26
