-- A demonstration of a clothing shop's ERP: products, balances per size, colour and branch, and receipts.
-- Dates are the server's local time. Nothing keeps a balance from standing there twice: readers must bear it.
-- Running it again changes nothing that is there.

IF DB_ID(N'LinceIndumentaria') IS NULL
    CREATE DATABASE LinceIndumentaria;
GO
USE LinceIndumentaria;
GO
SET NOCOUNT ON;
SET XACT_ABORT ON;
GO

IF OBJECT_ID(N'dbo.STK_PRODUCTOS') IS NULL
    CREATE TABLE dbo.STK_PRODUCTOS (
        CODIGO             varchar(50)  NOT NULL CONSTRAINT PK_STK_PRODUCTOS PRIMARY KEY,
        DESCRIPCION        varchar(200) NOT NULL,
        RUBRO              varchar(50)  NULL,
        PRECIO             money        NOT NULL,
        COSTO              money        NULL,
        MARCA              varchar(50)  NULL,
        PROVEEDOR          varchar(100) NULL,
        FECHA_MODIFICACION datetime     NULL CONSTRAINT DF_STK_PRODUCTOS_FECHA DEFAULT GETDATE(),
        ACTIVO             bit          NULL CONSTRAINT DF_STK_PRODUCTOS_ACTIVO DEFAULT 1
    );
GO
IF OBJECT_ID(N'dbo.STK_SALDOS') IS NULL
BEGIN
    CREATE TABLE dbo.STK_SALDOS (
        ID                      int IDENTITY  NOT NULL CONSTRAINT PK_STK_SALDOS PRIMARY KEY,
        CODIGO                  varchar(50)   NOT NULL CONSTRAINT FK_STK_SALDOS_PRODUCTO
                                              REFERENCES dbo.STK_PRODUCTOS (CODIGO),
        TALLE                   varchar(10)   NULL,
        COLOR                   varchar(20)   NULL,
        CANTIDAD                decimal(10,2) NOT NULL CONSTRAINT DF_STK_SALDOS_CANTIDAD DEFAULT 0,
        SUCURSAL                varchar(10)   NOT NULL CONSTRAINT DF_STK_SALDOS_SUCURSAL DEFAULT 'PRINCIPAL',
        FECHA_ULTIMO_MOVIMIENTO datetime      NULL CONSTRAINT DF_STK_SALDOS_FECHA DEFAULT GETDATE(),
        USUARIO_MODIFICACION    varchar(50)   NULL
    );
    CREATE INDEX IX_STK_SALDOS_FECHA ON dbo.STK_SALDOS (FECHA_ULTIMO_MOVIMIENTO);
    CREATE INDEX IX_STK_SALDOS_CODIGO ON dbo.STK_SALDOS (CODIGO);
END
GO
IF OBJECT_ID(N'dbo.VEN_COMPROBANTES') IS NULL
    CREATE TABLE dbo.VEN_COMPROBANTES (
        NUMERO_COMPROBANTE int IDENTITY NOT NULL CONSTRAINT PK_VEN_COMPROBANTES PRIMARY KEY,
        TIPO_COMPROBANTE   varchar(10)  NOT NULL CONSTRAINT CK_VEN_COMPROBANTES_TIPO
                                        CHECK (TIPO_COMPROBANTE IN ('FC', 'NC', 'ND')),
        FECHA              datetime     NULL CONSTRAINT DF_VEN_COMPROBANTES_FECHA DEFAULT GETDATE(),
        TOTAL              money        NOT NULL,
        METODO_PAGO        varchar(20)  NULL,
        CLIENTE_DOCUMENTO  varchar(20)  NULL,
        SUCURSAL           varchar(10)  NULL
    );
GO

-- Stock is given once: to a shop that has no products.
IF NOT EXISTS (SELECT 1 FROM dbo.STK_PRODUCTOS)
BEGIN
    BEGIN TRANSACTION;
    INSERT INTO dbo.STK_PRODUCTOS (CODIGO, DESCRIPCION, RUBRO, PRECIO, COSTO, MARCA, PROVEEDOR) VALUES
        ('REM-001',     'REMERA BASICA ALGODON',     'REMERAS',    15000,  9000, 'GENERICA', 'PROVEEDOR ABC'),
        ('REM-002',     'REMERA OVERSIZE ACID WASH', 'REMERAS',    25000, 15000, 'URBANA',   'PROVEEDOR XYZ'),
        ('JEAN-505',    'JEAN CLASICO RECTO',        'PANTALONES', 45000, 28000, 'LEVI''S',  'DISTRIBUIDORA DEL SUR'),
        ('JEAN-511',    'JEAN SLIM FIT',             'PANTALONES', 48000, 30000, 'LEVI''S',  'DISTRIBUIDORA DEL SUR'),
        ('BUZO-HOOD',   'BUZO CON CAPUCHA',          'BUZOS',      38000, 22000, 'NIKE',     'IMPORTADORA NORTE'),
        ('CAMP-BOMBER', 'CAMPERA BOMBER',            'CAMPERAS',   65000, 40000, 'ADIDAS',   'IMPORTADORA NORTE'),
        ('ZAP-RUN',     'ZAPATILLAS RUNNING',        'CALZADO',    85000, 55000, 'PUMA',     'CALZADOS SA'),
        ('GORRA-SNAP',  'GORRA SNAPBACK',            'ACCESORIOS',  8500,  5000, 'NEW ERA',  'PROVEEDOR XYZ');
    INSERT INTO dbo.STK_SALDOS (CODIGO, TALLE, COLOR, CANTIDAD) VALUES
        ('REM-001', 'S', 'NEGRO', 10), ('REM-001', 'M', 'NEGRO', 15), ('REM-001', 'L', 'NEGRO', 12),
        ('REM-001', 'M', 'BLANCO', 8), ('REM-001', 'L', 'BLANCO', 5),
        ('REM-002', 'M', 'NEGRO', 6), ('REM-002', 'L', 'GRIS', 4),
        ('JEAN-505', '38', 'AZUL', 8), ('JEAN-505', '40', 'AZUL', 10), ('JEAN-505', '42', 'AZUL', 7),
        ('JEAN-511', '38', 'NEGRO', 5), ('JEAN-511', '40', 'NEGRO', 9),
        ('BUZO-HOOD', 'M', 'NEGRO', 12), ('BUZO-HOOD', 'L', 'GRIS', 8),
        ('CAMP-BOMBER', 'M', 'VERDE', 4), ('CAMP-BOMBER', 'L', 'NEGRO', 6),
        ('ZAP-RUN', '39', 'BLANCO', 3), ('ZAP-RUN', '40', 'BLANCO', 5), ('ZAP-RUN', '41', 'NEGRO', 4),
        ('GORRA-SNAP', NULL, 'ROJO', 20), ('GORRA-SNAP', NULL, 'AZUL', 15);
    COMMIT;
END
GO

-- A sale at the ERP's own till. Stock may go below zero there; what has no size is found too.
CREATE OR ALTER PROCEDURE dbo.sp_SimularVenta
    @Codigo varchar(50), @Talle varchar(10), @Color varchar(20), @Cantidad decimal(10,2),
    @Sucursal varchar(10) = 'PRINCIPAL'
AS
BEGIN
    SET NOCOUNT ON;
    UPDATE dbo.STK_SALDOS
    SET CANTIDAD = CANTIDAD - @Cantidad, FECHA_ULTIMO_MOVIMIENTO = GETDATE(), USUARIO_MODIFICACION = 'CAJERO_SIM'
    WHERE CODIGO = @Codigo AND SUCURSAL = @Sucursal
        AND (TALLE = @Talle OR (TALLE IS NULL AND @Talle IS NULL))
        AND (COLOR = @Color OR (COLOR IS NULL AND @Color IS NULL));
    IF @@ROWCOUNT = 0
        PRINT 'no balance of ' + @Codigo + ' in that size, colour and branch';
END
GO

-- Whoever polls may read the two tables, and nothing else.
USE master;
GO
IF SUSER_ID(N'blend_reader') IS NULL
    CREATE LOGIN blend_reader WITH PASSWORD = N'$(MSSQL_READER_PASSWORD)', DEFAULT_DATABASE = LinceIndumentaria;
ELSE
    ALTER LOGIN blend_reader WITH PASSWORD = N'$(MSSQL_READER_PASSWORD)';
GO
USE LinceIndumentaria;
GO
IF USER_ID(N'blend_reader') IS NULL
    CREATE USER blend_reader FOR LOGIN blend_reader;
GRANT SELECT ON dbo.STK_PRODUCTOS TO blend_reader;
GRANT SELECT ON dbo.STK_SALDOS TO blend_reader;
GO
PRINT 'LinceIndumentaria is ready';
GO
